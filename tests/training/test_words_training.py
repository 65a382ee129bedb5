"""A small CLIP and a text mapper, with the real scripts and the config `smoke`."""

import json

import numpy as np
import pytest
import torch
from conftest import voice
from training_runs import make_smoke_base, run_main
from transformers import ResNetForImageClassification

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

from eat_hf import EATPipeline, SyncExpert  # noqa: E402
from eat_hf.adapters.clip import CLIP  # noqa: E402
from eat_hf.adapters.fingerprint import adaptation_parts  # noqa: E402
from eat_hf.errors import UserError  # noqa: E402
from training.corpus.build import Plan, build_corpus  # noqa: E402
from training.corpus.heads import ARKIT_NAMES  # noqa: E402
from training.judges import train_units as train_unit_judge  # noqa: E402
from training.release import add_text as add_words  # noqa: E402
from training.text import train_clip  # noqa: E402
from training.text import train_mapper as train_words


@pytest.fixture(scope="module")
def wishes(tmp_path_factory):
    """Two people who do what is wished, one to learn from."""
    folder = tmp_path_factory.mktemp("wishes")
    build_corpus(Plan(folder, 2, speech_clips=0, latent_clips=3, seed=5, frames_per_clip=12, range_frames=8,
                      expression="wishes"), workers=1, progress=False)  # fmt: skip
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    for line in lines:
        line["split"] = "validation" if line["identity"] else "train"
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def clip(wishes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    run_main(train_clip, "--corpus", wishes, "--output_dir", folder, "--steps", 8, "--learning_rate", 0.01)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_smoke_base(tmp_path_factory.mktemp("base"))


def test_the_judge_reads_units(tmp_path):
    build_corpus(Plan(tmp_path / "corpus", 2, speech_clips=0, latent_clips=0, seed=6, range_frames=8, judge=True,
                      expression="wishes"), workers=1, progress=False)  # fmt: skip
    arguments = ["--corpus", tmp_path / "corpus", "--output_dir", tmp_path, "--steps", 8, "--learning_rate", 0.01]
    run_main(train_unit_judge, *arguments)
    first, *_, last = log_of(tmp_path)
    assert last["units"] < first["units"]
    judge = ResNetForImageClassification.from_pretrained(tmp_path / "unit_judge")
    assert judge.config.id2label[list(ARKIT_NAMES).index("jawOpen")] == "jawOpen"
    assert train_unit_judge.read_units(judge, torch.rand(2, 3, 256, 256)).shape == (2, 52)


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_clip_learns_and_reads_plain_words(clip):
    first, *_, last = log_of(clip)
    assert last["units_of_texts"] < first["units_of_texts"]
    results = json.loads((clip / "results.json").read_text())
    assert {"units_of_pictures", "units_of_texts"} <= set(results)
    small = CLIP.load(str(clip / "clip"))
    smile, broad, nose = (small.embed_text(text) for text in ("She is smiling.", "she is SMILING .", "a wrinkled nose"))
    assert (smile @ broad.T).item() == pytest.approx(1, abs=1e-5) and (smile @ nose.T).item() < 1 - 1e-4
    assert len(small.tokenizer("She is smiling and talking.").input_ids) <= 10  # words, not letters
    assert small.tokenizer.decode(small.tokenizer("raised eyebrows").input_ids, skip_special_tokens=True).split() == [
        "raised",
        "eyebrows",
    ]


def test_words_become_emotions_of_a_model(wishes, clip, base, portrait, tmp_path):
    arguments = ["--corpus", wishes, "--base", base, "--clip", clip / "clip", "--output_dir", tmp_path]
    run_main(train_words, *arguments, "--steps", 8, "--learning_rate", 0.02, "--ema_decay", 0)
    first, *_, last = log_of(tmp_path)
    assert last["latent"] < first["latent"]
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"keypoints_px", "keypoints_if_neutral_px", "recognised", "training"}
    # an untrained model with a few steps of mapping shows others about the same, whatever is asked for
    assert results["keypoints_px"] == pytest.approx(results["keypoints_if_neutral_px"], rel=0.5)

    torch.manual_seed(0)
    SyncExpert(width=0.0625).save_pretrained(tmp_path / "expert")
    (base / "words").mkdir(exist_ok=True)
    (base / "words" / "README.md").write_text("its card")
    run_main(
        add_words,
        "--model",
        base,
        "--words",
        tmp_path / "words",
        "--sync_expert",
        tmp_path / "expert",
        "--half",
        "true",
    )
    assert (base / "words" / "README.md").read_text() == "its card"
    pipe = EATPipeline.from_pretrained(base)
    assert pipe.text_to_emotion.sync_expert.config.width == 0.0625
    pipe.set_progress_bar_config(disable=True)
    crop = np.ascontiguousarray(portrait[:256, 128:384])
    smile, nose, neutral = (
        next(pipe.stream(crop, (voice(0.2), 16000), generator=1, align=False, batch_size=1, emotion_text=text))
        for text in ("a broad smile", "a wrinkled nose", None)
    )
    assert not np.array_equal(smile, nose) and not np.array_equal(smile, neutral)
    own = adaptation_parts(pipe.networks)
    shows = pipe.text_to_emotion.shows.parts
    assert any((shows["edn"].state_dict()[name] != value).any() for name, value in own["edn"].state_dict().items())


def test_mistakes_are_named(base, clip, tmp_path):
    (tmp_path / "corpus").mkdir()
    build_corpus(Plan(tmp_path / "corpus", 1, 0, 1, range_frames=0), progress=False)
    arguments = ["--base", base, "--clip", clip / "clip", "--output_dir", tmp_path / "run"]
    with pytest.raises(UserError, match="make it with --expression wishes"):
        run_main(train_words, "--corpus", tmp_path / "corpus", *arguments)
