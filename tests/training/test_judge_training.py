"""Training the judges, and `make reproduce`, end to end on a corpus of a few frames."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

from eat_hf import EmotionFAN, SyncExpert, SyncNet  # noqa: E402
from eat_hf.evaluation import suite  # noqa: E402
from training.corpus.build import Plan, build_corpus  # noqa: E402
from training.data.faces import FaceBank  # noqa: E402
from training.experiments import reproduce  # noqa: E402
from training.judges import train_emotion as train_emotion_judge  # noqa: E402
from training.judges import train_sync
from training.judges.train_emotion import mirrored_units  # noqa: E402

BUNDLED = Path(__file__).resolve().parents[2] / "checkpoints_card" / "eat-demo"
COMPONENTS = """
components:
  sync_expert: {width: 0.0625}
  syncnet:
    {image_size: 64, lip_channels: [4, 4, 4, 4, 4, 8], audio_channels: [4, 4, 4, 4, 4, 8], hidden: 8, embedding: 8}
  emotion_fan: {base_width: 4, layers: [1, 1, 1, 1], classes: [%s]}
stages: {}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """2 people, one clip of 24 frames each."""
    folder = tmp_path_factory.mktemp("judge_corpus")
    plan = Plan(
        folder, identities=2, speech_clips=1, latent_clips=0, seed=5, frames_per_clip=24, range_frames=0, judge=True
    )
    build_corpus(plan, progress=False)
    return folder


@pytest.fixture(scope="module")
def recipe(corpus):
    """Tiny judges, of the emotions that the corpus has."""
    emotions = {json.loads(line)["emotion"] for line in (corpus / "metadata.jsonl").read_text().splitlines()}
    path = corpus / "tiny.yaml"
    path.write_text(COMPONENTS % ", ".join(sorted(emotions)))
    return path


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def run(module, **options):
    module.main([part for name, value in options.items() for part in (f"--{name}", str(value))])


@pytest.mark.parametrize("network", ["judge", "expert"])
def test_sync_networks_train(network, corpus, recipe, tmp_path):
    options = {"config": recipe, "corpus": corpus, "output_dir": tmp_path, "steps": 8, "batch_size": 4, "log_every": 1}
    run(train_sync, network=network, learning_rate=0.01, warmup_steps=0, **options)
    kind, name = (SyncNet, "syncnet") if network == "judge" else (SyncExpert, "sync_expert")
    sizes = kind.from_pretrained(tmp_path / name).config
    assert (sizes.embedding if network == "judge" else sizes.width) == (8 if network == "judge" else 0.0625)
    first, *_, last = log_of(tmp_path)
    assert last["units_heard"] < first["units_heard"]  # sound is learnt from first
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["training"]["steps"] == 8
    assert results["tracked_clips" if network == "judge" else "clips"] == 1  # of the one person who is held out


def test_the_emotion_judge_trains(corpus, recipe, tmp_path):
    run(train_emotion_judge, config=recipe, corpus=corpus, output_dir=tmp_path, steps=8, batch_size=4,
        image_size=64, held_out=0.5, log_every=1, learning_rate=0.01, warmup_steps=0)  # fmt: skip
    judge = EmotionFAN.from_pretrained(tmp_path / "emotion_fan")
    assert judge.config.image_size == 64
    first, *_, last = log_of(tmp_path)
    assert last["emotion"] < first["emotion"] and last["units"] < first["units"]


def test_face_crops_are_made_once(corpus, monkeypatch):
    first = FaceBank.load(str(corpus), "tracked", 48)
    monkeypatch.setattr("training.data.faces._cut", None)  # would fail if it were called
    again = FaceBank.load(str(corpus), "tracked", 48)
    assert len(first.clips) == 2 and (first.pictures == again.pictures).all()
    assert len(first.of(1)) == first.clips[1].length
    assert first.held_out(0.5) == ([0], [1])


def test_units_in_a_mirror():
    names = ["jawLeft", "jawRight", "jawOpen", "eyeBlinkRight", "eyeBlinkLeft"]
    assert mirrored_units(names) == [1, 0, 2, 4, 3]


@pytest.mark.slow
def test_reproduce_writes_the_card(tmp_path, monkeypatch):
    """The whole of it, on one short clip, with tiny judges. A tiny generator would not do: it draws no face."""
    torch.manual_seed(0)
    judges = tmp_path / "judges"
    SyncNet(64, (4,) * 5 + (8,), (4,) * 5 + (8,), hidden=8, embedding=8).save_pretrained(judges / "syncnet")
    EmotionFAN(base_width=4, layers=(1, 1, 1, 1), image_size=64).save_pretrained(judges / "emotion_fan")
    monkeypatch.setattr(suite, "bundled_judge", lambda name: str(judges / name))
    model = shutil.copytree(BUNDLED, tmp_path / "model")
    card = model / "README.md"
    card.write_text(f"# tiny\n\nbefore\n\n{reproduce.BEGIN}\nold\n{reproduce.END}\n\nafter\n")
    (model / "training.json").write_text('{"emotion": {"training": {"seconds": 90, "device": "a CPU"}}}')
    monkeypatch.setattr(reproduce, "plan_of", lambda options: reproduce.Plan(
        tmp_path / "test_split", 8, 1, 0, 0, frames_per_clip=16, range_frames=0, splits=("test",)))  # fmt: skip
    run(reproduce, model=model, corpus=tmp_path / "test_split", output=tmp_path / "out", workers=1,
        clips=1)  # fmt: skip
    text = card.read_text()
    assert "old" not in text and "# tiny\n\nbefore" in text and text.endswith("after\n")
    results = {result.metric_name: result.metric_value for result in ModelCard(text).data.eval_results}
    assert results["PSNR (dB)"] > 10 and ModelCard(text).data.model_name == "tiny"
    assert "| no glasses | 1 | 1 |" in text or "| glasses | 1 | 1 |" in text
    for row in ("ground truth", "A2ET (stage 1, no emotion)", "EAT", "RePos-Net (true keypoints)"):
        assert f"| {row} |" in text
    page = (tmp_path / "out" / "report.html").read_text()
    assert "ground truth" in page and page.count("data:image/") >= 2  # strips of the real clip and of a made one
    measured = json.loads((model / "measured.json").read_text())
    methods = {method["name"]: method for method in measured["report"]["methods"]}
    assert methods["EAT"]["tuning"]["hours"] == 0.025 and methods["EAT"]["parameters"]
