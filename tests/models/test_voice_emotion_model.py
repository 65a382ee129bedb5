"""Classifiers of transformers that hear emotions: real ones, tiny, and those of strangers."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_voice_emotion import hum, save_classifier, tiny_classifier
from transformers import ASTConfig, ASTForAudioClassification, WhisperConfig, WhisperForAudioClassification

from eat_hf import VoiceEmotionModel
from eat_hf.constants import EMOTIONS
from eat_hf.errors import RepositoryError, UserError

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def model(folder):
    return VoiceEmotionModel.load(folder)


@pytest.fixture
def stranger(folder, tmp_path):
    """A copy of the folder, to change."""
    return shutil.copytree(folder, tmp_path / "stranger")


def change(folder, file="config.json", **settings):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_it_says_what_transformers_says(model, folder):
    sound = hum("hap", 3)
    normal = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
    with torch.no_grad():
        logits = tiny_classifier()(torch.from_numpy(normal)[None]).logits
    np.testing.assert_allclose(model.hear([sound]), logits.softmax(1), atol=1e-4)
    assert model.labels == ("sad", "neu", "hap") and not any(p.requires_grad for p in model.model.parameters())


def test_what_is_heard_becomes_a_timeline(model):
    pause = np.zeros(RATE, np.float32)
    sound = np.concatenate([hum("hap", 6, 1), pause, hum("sad", 7, 2)])
    timeline = model.timeline(sound, EMOTIONS)
    assert timeline[0][0] == 0 and max(timeline[0][1], key=timeline[0][1].get) == "happy"
    assert max(timeline[-1][1], key=timeline[-1][1].get) == "sad" and 4.5 < timeline[-1][0] < 8.5
    assert len(timeline) <= 3
    assert model.timeline(pause, EMOTIONS) == [(0.0, {"neutral": 1.0})]
    [(_, felt)] = model.timeline(hum("hap", 0.3, 4), EMOTIONS)  # shorter than a window
    assert felt["happy"] > 0.7


def test_a_table_says_what_labels_mean(folder):
    model = VoiceEmotionModel.load(folder, labels={"hap": "surprised"})
    [(_, felt)] = model.timeline(hum("hap", 2, 4), EMOTIONS)
    assert felt["surprised"] > 0.7
    with pytest.raises(UserError, match="has no label 'joy', only 'sad', 'neu', 'hap'"):
        VoiceEmotionModel.load(folder, labels={"joy": "happy"}).timeline(hum("hap", 1), EMOTIONS)


LABELS = {"id2label": {0: "angry", 1: "neutral"}, "label2id": {"angry": 0, "neutral": 1}}


@pytest.mark.parametrize(
    "build",
    [
        lambda: WhisperForAudioClassification(
            WhisperConfig(d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16, decoder_layers=1,
                          decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=8, classifier_proj_size=8,
                          pad_token_id=1, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3, **LABELS)),
        lambda: ASTForAudioClassification(
            ASTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_length=256,
                      **LABELS)),
    ],
    ids=["whisper", "spectrogram"],
)  # fmt: skip
def test_other_families_and_no_preprocessor(build, tmp_path):
    build().save_pretrained(tmp_path)
    model = VoiceEmotionModel.load(tmp_path)
    [(seconds, felt)] = model.timeline(hum("hap", 1), EMOTIONS)
    assert seconds == 0 and felt.keys() <= {"angry", "neutral"} and sum(felt.values()) == pytest.approx(1, abs=0.02)


def test_names_of_older_files_are_known(stranger, model):
    """Weight norms had other names before; transformers knows them."""
    weights = load_file(stranger / "model.safetensors")
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, before in old.items():
        for name in [name for name in weights if name.endswith(new)]:
            weights[name.replace(new, before)] = weights.pop(name)
    save_file(weights, stranger / "model.safetensors", {"format": "pt"})
    sound = [hum("sad", 1)]
    np.testing.assert_array_equal(VoiceEmotionModel.load(stranger).hear(sound), model.hear(sound))


def without_classifier(folder):
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k}, folder / "model.safetensors", {"format": "pt"}
    )


def not_numbers(folder):
    weights = load_file(folder / "model.safetensors")
    weights["classifier.bias"][:] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "no model.safetensors, and pickles are"),
        (lambda f: (f / "config.json").unlink(), "config.json cannot be read"),
        (lambda f: change(f, model_type="bert"), "of the type 'bert'; it must be one of"),
        (lambda f: change(f, hidden_size=60_000), "make no network|describes a network"),
        (lambda f: change(f, num_hidden_layers=60_000), "far more than its"),
        (lambda f: change(f, conv_stride=[1] * 7), "conv_stride: .* more rows of sound than can be heard"),
        (lambda f: change(f, hidden_act="boom"), "boom"),
        (lambda f: change(f, num_attention_heads="two"), "config.json cannot be used"),
        (lambda f: change(f, "preprocessor_config.json", sampling_rate=48000), "hears sound at 48000 Hz, not at 16000"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter of peft"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x08" + bytes(99)), "cannot be read"),
        (without_classifier, "lacks the tensor classifier"),
        (not_numbers, "NaN or infinite"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(stranger, harm, words):
    harm(stranger)
    with pytest.raises(RepositoryError, match=words) as caught:
        VoiceEmotionModel.load(stranger)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_what_is_not_there_is_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(RepositoryError, match="neither a folder nor the name of a repository"):
        VoiceEmotionModel.load(tmp_path / "nothing")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(RepositoryError, match="is not in the cache of this machine"):
        VoiceEmotionModel.load("somebody/emotions")


def test_no_code_of_a_stranger_runs(stranger, model):
    """Neither a repository's own classes nor kernels and quantisers that its configuration names."""
    (stranger / "modeling.py").write_text("raise SystemExit('ran')")
    auto = {"AutoConfig": "modeling.C", "AutoModelForAudioClassification": "modeling.M"}
    change(stranger, auto_map=auto, attn_implementation="somebody/kernel", _attn_implementation="somebody/kernel",
           quantization_config={"quant_method": "awq"}, return_dict=False)  # fmt: skip
    change(stranger, "preprocessor_config.json", auto_map={"AutoFeatureExtractor": "modeling.E"},
           feature_extractor_type="modeling.E", feature_size=65_000)  # fmt: skip
    sound = [hum("sad", 1)]
    np.testing.assert_array_equal(VoiceEmotionModel.load(stranger).hear(sound), model.hear(sound))
