"""A new emotion learnt on top of a model, with the real script and the config `smoke`."""

import json
import sys

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from conftest import voice
from training_runs import in_two_processes

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

import eat_hf  # noqa: E402
from eat_hf import EATPipeline  # noqa: E402
from eat_hf.adapters import CONFIG, WEIGHTS, adaptation_parts  # noqa: E402
from eat_hf.errors import UserError  # noqa: E402
from training import train_emotion  # noqa: E402
from training.corpus.build import Plan, build_corpus  # noqa: E402
from training.corpus.dataset import keypoint_index  # noqa: E402
from training.corpus.heads import KEYPOINT_NAMES  # noqa: E402
from training.options import Recipe  # noqa: E402

KINDS = {
    "keypoint_detector": "CanonicalKeypointDetector", "motion_estimator": "MotionEstimator",
    "emotion_mapper": "EmotionMapper", "a2et": "A2ET", "edn": "EDN", "repos_net": "RePosNet",
    "speech_encoder": "DeepSpeechEncoder", "expression_basis": "ExpressionBasis",
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The smoke configuration's networks as they are made, as a model."""
    recipe, folder = Recipe.load("smoke"), tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    names = {"rigid_keypoints": recipe.rigid_keypoints, "inner_mouth": recipe.inner_mouth}
    places = {name: keypoint_index(KEYPOINT_NAMES, *points) for name, points in names.items()}
    components = {
        name: getattr(eat_hf, kind)(**recipe.components[name], **(places if name == "repos_net" else {}))
        for name, kind in KINDS.items()
    }
    EATPipeline(**components, **recipe.pipeline).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two clips of a smirk and three of a held-out person's; and one of happiness, which is not to be learnt from."""
    folder = tmp_path_factory.mktemp("clips")
    build_corpus(Plan(folder, 2, speech_clips=0, latent_clips=3, seed=5, frames_per_clip=12, range_frames=2),
                 workers=1, progress=False)  # fmt: skip
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    speech = [line for line in lines if line["kind"] == "speech"]
    for number, line in enumerate(speech):
        line["emotion"], line["level"] = ("happy", 3) if number == 0 else ("smirk", None)
    for line in lines:
        line["split"] = "train" if line["identity"] == speech[0]["identity"] else "validation"
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def learn(base, clips, output, *options):
    arguments = ["--config", "smoke", "--stage", "adapter", "--base", base, "--adapter", "smirk", "--corpus", clips]
    before = sys.argv
    sys.argv = ["train_emotion", *map(str, [*arguments, "--output_dir", output, *options])]
    try:
        train_emotion.main()
    finally:
        sys.argv = before
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


@pytest.fixture(scope="module")
def learnt(base, clips, tmp_path_factory):
    """Quickly, so that it shows."""
    folder = tmp_path_factory.mktemp("learnt")
    learn(base, clips, folder, "--steps", 12, "--learning_rate", 0.02, "--ema_decay", 0, "--checkpoint_every", 12)
    return folder


def test_an_adapter_is_learnt_and_saved(base, learnt):
    config = json.loads((learnt / "adapter" / CONFIG).read_text())
    facts = config["training"]
    assert config["emotions"] == ["smirk"] and config["base_model"] == base.name
    assert (facts["clips"], facts["people"], facts["steps"], facts["start"]) == (2, 1, 12, "neutral")
    assert facts["train_keypoints_px"] < 0.95 * facts["train_keypoints_before_px"]
    assert facts["validation_keypoints_px"] > 0
    lines = [json.loads(line) for line in (learnt / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["latent"] < lines[0]["latent"]


def test_it_is_an_emotion_of_the_base_which_stays_as_it_was(base, learnt, portrait):
    pipe = EATPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    crop = np.ascontiguousarray(portrait[:256, 128:384])

    def frames(emotion):
        return next(pipe.stream(crop, (voice(0.2), 16000), emotion, generator=1, align=False, batch_size=1))

    before = frames("neutral")
    pipe.load_adapter(learnt / "adapter")
    assert not np.array_equal(frames("smirk"), before) and np.array_equal(frames("neutral"), before)
    own, adapter = adaptation_parts(pipe), pipe.adapters["smirk"].parts
    heads = [module.pop("emotion_mapper.heads") for module in (own, adapter)]
    changed = {
        name.split(".")[0]
        for name, part in adapter.items()
        if any(not torch.equal(value, own[name].state_dict()[key]) for key, value in part.state_dict().items())
    }
    assert changed == {"edn", "a2et"}  # without pictures nothing teaches the renderer's EAM
    neutral = heads[0][eat_hf.models.emotion_mapper.EMOTIONS.index("neutral")].state_dict()
    assert not torch.equal(heads[1][0].state_dict()["0.weight"], neutral["0.weight"])


def test_two_processes_learn_what_one_does(base, clips, learnt, tmp_path):
    options = ("--steps", 2, "--checkpoint_every", 2)
    learn(base, clips, tmp_path / "one", *options)
    assert in_two_processes(tmp_path / "two", learn, base, clips, tmp_path / "two", *options) == []
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("one", "two")]
    losses = [[json.loads(line)["latent"] for line in log] for log in logs]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    assert (tmp_path / "two" / "adapter" / WEIGHTS).is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--adapter", "happy"], "an emotion 'happy' already"),
        (["--start", "joy"], "no emotion 'joy' to start from"),
        (["--base", "none/at/all"], "does not exist"),
        (["--adapter", "wince"], "has no clips of wince"),
    ],
)
def test_mistakes_are_named(base, clips, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        learn(base, clips, tmp_path, *options)
