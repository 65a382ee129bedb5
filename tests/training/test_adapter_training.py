"""A new emotion learnt on top of a model, with the real script and the config `smoke`."""

import json

import numpy as np
import pytest
import torch
from conftest import voice
from hub_server import Hub, run, usage
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from training_runs import in_two_processes, make_smoke_base, run_main

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

import eat_hf  # noqa: E402
from eat_hf import EATPipeline  # noqa: E402
from eat_hf.adapters.emotion_adapter import CONFIG, WEIGHTS  # noqa: E402
from eat_hf.adapters.fingerprint import adaptation_parts  # noqa: E402
from eat_hf.errors import UserError
from eat_hf.media.videos import read_video  # noqa: E402
from training import stage_2_emotion as train_emotion  # noqa: E402
from training.corpus.build import Plan, build_corpus  # noqa: E402


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return make_smoke_base(tmp_path_factory.mktemp("base"))


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
    arguments = ["--stage", "adapter", "--base", base, "--adapter", "smirk", "--corpus", clips, "--output_dir", output]
    run_main(train_emotion, *arguments, *options)


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
    assert facts["validation_keypoints_px"] < 0.95 * facts["validation_keypoints_before_px"]
    assert facts["train_recognised"] >= 0.5  # of two clips
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
    own, adapter = adaptation_parts(pipe.networks), pipe.adapters["smirk"].parts
    heads = [module.pop("emotion_mapper.heads") for module in (own, adapter)]
    changed = {
        name.split(".")[0]
        for name, part in adapter.items()
        if any(not torch.equal(value, own[name].state_dict()[key]) for key, value in part.state_dict().items())
    }
    assert changed == {"edn", "a2et"}  # without pictures nothing teaches the renderer's EAM
    neutral = heads[0][eat_hf.models.emotion_mapper.EMOTIONS.index("neutral")].state_dict()
    assert not torch.equal(heads[1][0].state_dict()["0.weight"], neutral["0.weight"])


@pytest.mark.slow
def test_two_processes_learn_what_one_does(base, clips, learnt, tmp_path):
    """Of one that takes the same shares, which are all that batch norm sees on CPUs."""
    options = ("--steps", 2, "--checkpoint_every", 2)
    learn(base, clips, tmp_path / "one", *options, "--gradient_accumulation_steps", 2)
    assert in_two_processes(tmp_path / "two", learn, base, clips, tmp_path / "two", *options) == []
    logs = [(tmp_path / run / "log.jsonl").read_text().splitlines() for run in ("one", "two")]
    losses = [[json.loads(line)["latent"] for line in log] for log in logs]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    one, two = (load_file(tmp_path / run / "adapter" / WEIGHTS) for run in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        # batch norm's statistics are of what the main process has seen: one process has seen both shares
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-3)


PUSH = """
import json, sys
from eat_hf import EATPipeline
from eat_hf.errors import UserError

base, adapter, picture = sys.argv[1:]
pipe = EATPipeline.from_pretrained(base)
pipe.load_adapter(adapter)
addresses = [
    pipe.push_to_hub("ann/base", license="cc0-1.0"),
    pipe.push_adapter_to_hub(
        "smirk", "smirk", base_model="ann/base", private=True, license="cc0-1.0",
        metrics={"keypoint error (px)": 1.25}, samples={"a smirk": picture},
    ),
]
refused = []
for name, repo_id, options in (
    ("wince", "ann/wince", {}), ("smirk", "bob/smirk", {}), ("smirk", "ann/smirk2", {"samples": {"a": "none.png"}}),
):
    try:
        pipe.push_adapter_to_hub(name, repo_id, **options)
    except UserError as error:
        refused.append(str(error))
print(json.dumps([addresses, refused]))
"""
PULL = """
import json, sys
import numpy as np
exec(sys.argv[1])  # the lines on the card
pipe.set_progress_bar_config(disable=True)
mixture = {"smirk": 0.5, "happy": 0.5}
for name, emotion in {"smirk": "smirk", "mixture": mixture}.items():
    np.save(f"{name}.npy", pipe("portrait.png", "speech.wav", emotion, head_motion="still", generator=1).frames)
print("0")
"""


@pytest.mark.slow
def test_a_learnt_adapter_goes_over_the_hub(base, learnt, portrait_file, recording_file, tmp_path):
    """Trained here, pushed, and loaded by a process with a clean cache, which follows the card: the same frames."""
    hub = Hub()
    try:
        for name in ("ann", "bob"):
            hub.add_user(name)
        pushed = run(PUSH, hub.client_environment(tmp_path / "ann", "hf_ann"), base, learnt / "adapter", portrait_file)
        addresses, (no_adapter, no_right, no_picture) = pushed
        repositories = [url.partition("/commit/")[0].removeprefix(hub.endpoint) for url in addresses]
        assert repositories == ["/ann/base", "/ann/smirk"]
        assert "no adapter 'wince'" in no_adapter and "bob/smirk" in no_right and "none.png" in no_picture
        assert hub.repositories["ann/smirk"].private and "ann/smirk2" not in hub.repositories

        smirk = hub.repositories["ann/smirk"]
        files = smirk.commits[smirk.references["main"]]
        assert {CONFIG, WEIGHTS, "README.md", "samples/a_smirk.png"} <= set(files)
        assert json.loads(files[CONFIG].content)["base_model"] == "ann/base"
        card = ModelCard(files["README.md"].content.decode())
        assert card.data.base_model == "ann/base" and card.data.license == "cc0-1.0"
        assert card.data.eval_results[0].metric_value == 1.25 and "![a smirk](samples/a_smirk.png)" in card.text

        work = tmp_path / "work"
        work.mkdir()
        (work / "portrait.png").symlink_to(portrait_file)
        (work / "speech.wav").symlink_to(recording_file)
        run(PULL, hub.client_environment(tmp_path / "clean", "hf_ann"), usage(card.content), folder=work)
    finally:
        hub.close()

    pipe = EATPipeline.from_pretrained(base)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_adapter(learnt / "adapter")
    for name, emotion in {"smirk": "smirk", "mixture": {"smirk": 0.5, "happy": 0.5}}.items():
        frames = pipe(portrait_file, recording_file, emotion, head_motion="still", generator=1).frames
        np.testing.assert_array_equal(np.load(work / f"{name}.npy"), frames)
    assert len(list(read_video(work / "out.mp4"))) == len(frames)


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
