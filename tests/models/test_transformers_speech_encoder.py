"""Speech encoders of transformers, tiny and random, as components of a talking head."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_speech_encoders import FAMILIES, save_speech_network

from eat_hf import EATPipeline, TransformersSpeechEncoder
from eat_hf.errors import RepositoryError
from eat_hf.models.checked import load_network

RATE = 16_000


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return save_speech_network(family, tmp_path_factory.mktemp(family))


@pytest.fixture(scope="module")
def encoder(folder):
    return TransformersSpeechEncoder.from_transformers(folder)


@pytest.fixture(scope="module")
def sound():
    return torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, (2, RATE + 100)).astype(np.float32))


def test_rows_are_those_of_transformers(family, folder, encoder, sound):
    """Rows are 50 a second, and the first one's sound lies around the beginning."""
    rows = encoder.rows(sound)
    assert rows.shape == (2, 50, 16) and encoder.config.classes == 16 and encoder.lookahead is None
    clip = sound[1]
    if family == "whisper":
        from transformers import WhisperFeatureExtractor, WhisperModel

        network = WhisperModel.from_pretrained(folder).encoder.eval()
        heard = torch.zeros(2 * RATE).index_copy(0, torch.arange(50 * 320), clip[: 50 * 320])  # what follows is silence
        spectrum = WhisperFeatureExtractor()(heard.numpy(), sampling_rate=RATE, padding=False, return_tensors="pt")
        expected = network(spectrum.input_features).last_hidden_state[0, :50]
    else:
        from transformers import AutoModel

        network = AutoModel.from_pretrained(folder).eval()
        clip = (clip - clip.mean()) / clip.var(unbiased=False).sqrt()
        padded = torch.nn.functional.pad(clip, (200, 0))[: 49 * 320 + 400]
        expected = network(padded[None]).last_hidden_state[0]
    assert torch.allclose(rows[1], expected, atol=1e-4)


def test_clips_of_a_batch_are_heard_one_by_one_and_nothing_learns(encoder, sound):
    windows = encoder(sound)
    assert windows.shape == (2, 25, 16, 16) and torch.equal(windows[1:], encoder(sound[1:]))
    assert (windows[:, 0, :8] == 0).all() and (windows[:, 0, 8] != 0).any()  # a window starts 8 rows before its frame
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not encoder.train().training and not any(module.training for module in encoder.modules())


def test_a_long_clip_is_heard_in_blocks(family, encoder, sound, monkeypatch):
    """With what is around them; so rows hardly depend on where blocks end. Whisper's know their place in the block."""
    whole = encoder.rows(sound[:1])
    monkeypatch.setattr("eat_hf.models.transformers_speech_encoder.BLOCK", 30)
    pieces = encoder.rows(sound[:1])
    assert pieces.shape == whole.shape
    alike = torch.nn.functional.cosine_similarity(pieces, whole, dim=2)
    assert alike.mean() > (0.5 if family == "whisper" else 0.9)


def test_it_is_saved_with_its_weights(encoder, sound, tmp_path):
    encoder.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    again = load_network(TransformersSpeechEncoder, tmp_path)
    assert torch.equal(again.rows(sound), encoder.rows(sound)) and not any(p.requires_grad for p in again.parameters())


def test_fewer_layers_are_a_smaller_network(folder, encoder, sound):
    first = TransformersSpeechEncoder.from_transformers(folder, layers=1)
    assert first.num_parameters() < encoder.num_parameters() and first.rows(sound).shape == (2, 50, 16)
    with pytest.raises(RepositoryError, match="has 2 layers, so layers cannot be 3"):
        TransformersSpeechEncoder.from_transformers(folder, layers=3)


@pytest.fixture(scope="module")
def hubert(tmp_path_factory):
    return save_speech_network("hubert", tmp_path_factory.mktemp("hubert"))


def test_a_pipeline_keeps_it(hubert, tiny_pipeline, sound, tmp_path):
    from conftest import build_tiny_pipeline

    encoder = TransformersSpeechEncoder.from_transformers(hubert, layers=1)
    pipe = build_tiny_pipeline(semantic_widths=(16, 8, 8, 8, 8))
    pipe = EATPipeline(**{**pipe.components, "speech_encoder": encoder})
    pipe.save_pretrained(tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    assert index["speech_encoder"] == ["eat_hf", "TransformersSpeechEncoder"]
    again = EATPipeline.from_pretrained(tmp_path / "model")
    assert torch.equal(again.speech_encoder(sound), encoder(sound))
    EATPipeline(**{**tiny_pipeline.components, "speech_encoder": encoder}).save_pretrained(tmp_path / "mixed")
    with pytest.raises(RepositoryError, match="its speech_encoder is not the one that a2et reads"):
        EATPipeline.from_pretrained(tmp_path / "mixed")


def changed(folder, tmp_path, **settings):
    copy = shutil.copytree(folder, tmp_path / "changed")
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return copy


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "sew"}, "must be one of hubert, wav2vec2, wavlm, whisper"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 1]}, "its rows are not 50 a second"),
        ({"hidden_size": 512}, "cannot be used|describes a network"),
    ],
)
def test_other_networks_are_refused(hubert, tmp_path, settings, words):
    with pytest.raises(RepositoryError, match=words):
        TransformersSpeechEncoder.from_transformers(changed(hubert, tmp_path, **settings))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"classes": 17}, "classes must be the width of a row"),
        ({"encoder": {"model_type": "bert"}}, "must be of one of hubert"),
        ({"encoder": {"model_type": "hubert", "num_hidden_layers": 60_000}}, "far more than its"),
    ],
)
def test_a_strangers_component_is_refused(hubert, tmp_path, settings, words):
    TransformersSpeechEncoder.from_transformers(hubert).save_pretrained(tmp_path / "saved")
    assert load_file(tmp_path / "saved" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(RepositoryError, match=words):
        load_network(TransformersSpeechEncoder, changed(tmp_path / "saved", tmp_path, **settings))


def test_how_weights_began_does_not_matter(hubert, sound, tmp_path):
    encoder = TransformersSpeechEncoder.from_transformers(hubert)
    encoder.save_pretrained(tmp_path / "saved")
    settings = json.loads((tmp_path / "saved" / "config.json").read_text())["encoder"]
    folder = changed(tmp_path / "saved", tmp_path, encoder={**settings, "initializer_range": -0.5})
    assert torch.equal(load_network(TransformersSpeechEncoder, folder)(sound), encoder(sound))


def test_what_a_stranger_wrote_is_told_without_escapes(hubert, tmp_path):
    folder = changed(hubert, tmp_path, feat_extract_norm="\x1b[31m\u202e")
    with pytest.raises(RepositoryError, match="cannot be used") as told:
        TransformersSpeechEncoder.from_transformers(folder)
    assert str(told.value).isprintable()
