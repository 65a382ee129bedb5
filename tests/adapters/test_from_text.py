"""Emotions from words, with a tiny CLIP and mapper: at once, and tuned."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import build_tiny_pipeline, voice
from hub_server import Blob, Hub, Repository, run
from PIL import Image
from tiny_words import add_words, make_tiny_clip
from transformers import CLIPImageProcessorPil

from eat_hf import EATPipeline, SyncExpert
from eat_hf.adapters.clip import CLIP, to_clip_pixels
from eat_hf.adapters.tuning import LearningOptions, face_squares
from eat_hf.errors import InputWarning, RepositoryError, UserError
from eat_hf.inputs.faces import detect_faces
from eat_hf.models.judges.sync_loss import SyncLoss, expert_boxes

pytestmark = pytest.mark.usefixtures("faces_found_once")

AUDIO = voice(0.24), 16000  # 6 frames, of which a sync expert sees two windows
FAST = LearningOptions(steps=6, learning_rate=0.01, latent_weight=0.0)


@pytest.fixture(scope="module")
def clip():
    return make_tiny_clip()


@pytest.fixture(scope="module")
def model(clip, tmp_path_factory):
    """A model with words."""
    folder = tmp_path_factory.mktemp("model")
    build_tiny_pipeline().save_pretrained(folder)
    add_words(folder, clip)
    return folder


@pytest.fixture
def pipe(model):
    pipe = EATPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def frames(pipe, crop, emotion="neutral", **options):
    return pipe(crop, AUDIO, emotion, head_motion="still", generator=0, align=False, **options).frames.astype(int)


@pytest.fixture(scope="module")
def crop(portrait):
    return np.ascontiguousarray(portrait[:256, 128:384])


# At once --------------------------------------------------------------------------------------------------------------


def test_words_show(pipe, crop):
    smile, rage, neutral = (frames(pipe, crop, emotion_text=text) for text in ("a smile", "furious", "no emotion"))
    assert np.abs(smile - rage).max() > 3 and np.abs(smile - neutral).max() > 3
    np.testing.assert_array_equal(smile, frames(pipe, crop, emotion_text="a smile"))
    np.testing.assert_array_equal(frames(pipe, crop, emotion_text="a smile", intensity=0), frames(pipe, crop))
    assert pipe.emotions == tuple(pipe.emotion_mapper.config.emotions)  # nothing stays loaded


def test_a_wish_is_an_ordinary_adapter(pipe, crop, tmp_path):
    phrasings = ["She is smiling.", "a broad smile"]
    adapter = pipe.text_adapter(phrasings, "grin")
    pipe.add_adapter(adapter)
    shown = frames(pipe, crop, "grin")
    np.testing.assert_array_equal(shown, frames(pipe, crop, emotion_text=phrasings))
    assert np.abs(shown - frames(pipe, crop, emotion_text=phrasings[0])).max() > 0  # the mean of both
    prompts = adapter.adapt(pipe).emotion_mapper(torch.randn(2, 16), torch.zeros(2, dtype=torch.long)).prompts
    wanted = pipe.text_to_emotion.mapper(pipe.text_to_emotion.clip.embed_text(phrasings)).prompts
    torch.testing.assert_close(prompts, wanted.expand(2, -1, -1))
    pipe.save_adapter("grin", tmp_path / "grin")
    pipe.unload_adapter("grin")
    pipe.load_adapter(tmp_path / "grin")
    np.testing.assert_array_equal(frames(pipe, crop, "grin"), shown)
    assert frames(pipe, crop, {"grin": 0.5, "happy": 0.5}).shape == shown.shape


def test_words_go_where_the_model_goes(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    text = ["She is smiling.", "a broad smile"]
    here, there = (each.text_adapter(text, "grin").tensors() for each in (pipe, EATPipeline.from_pretrained(tmp_path)))
    assert here.keys() == there.keys()
    for name, tensor in here.items():
        torch.testing.assert_close(there[name], tensor)


def test_what_is_no_wish_is_refused(pipe, crop, tiny_model):
    for text in ("", "  ", [], ["a smile", ""]):
        with pytest.raises(UserError, match="text is empty"):
            frames(pipe, crop, emotion_text=text)
    with pytest.raises(UserError, match="tokens, and CLIP reads 77 at most"):
        frames(pipe, crop, emotion_text="smiling " * 100)
    with pytest.raises(UserError, match="either emotion or emotion_text"):
        frames(pipe, crop, "happy", emotion_text="a smile")
    with pytest.raises(UserError, match="came without a text mapper"):
        frames(EATPipeline.from_pretrained(tiny_model), crop, emotion_text="a smile")


def test_words_are_for_their_own_model(model, tmp_path):
    other = build_tiny_pipeline()
    with torch.no_grad():
        other.a2et.head.weight += 1
    other.save_pretrained(tmp_path)
    (tmp_path / "words").symlink_to(model / "words")
    with pytest.raises(UserError, match="differs from that in a2et"):
        EATPipeline.from_pretrained(tmp_path).text_adapter("a smile", "grin")


# CLIP -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(256, 256), (300, 200)])
def test_pixels_are_what_the_processor_makes(size):
    processor = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 48, "width": 48})
    generator = np.random.default_rng(0)
    picture = np.array(Image.fromarray(generator.integers(0, 255, (12, 9, 3), np.uint8)).resize(size[::-1]))
    expected = processor(Image.fromarray(picture), return_tensors="pt").pixel_values
    settings = json.loads(processor.to_json_string())
    found = to_clip_pixels(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255, settings)
    assert found.shape == expected.shape == (1, 3, 48, 48)
    assert (found - expected).abs().max() < 0.03  # steps of 8-bit colour are 0.015
    older = settings | {"size": 64, "crop_size": 48}
    torch.testing.assert_close(to_clip_pixels(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255, older), found)


def test_a_clip_is_read_as_it_was_saved(clip, tmp_path, crop):
    clip.save(tmp_path)
    again = CLIP.load(str(tmp_path))
    pictures = torch.from_numpy(crop).permute(2, 0, 1)[None] / 255
    torch.testing.assert_close(again.embed_pictures(pictures), clip.embed_pictures(pictures))
    torch.testing.assert_close(again.embed_text("a smile"), clip.embed_text("a smile"))


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


HUGE = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 60_000,
    "vocab_size": 65_536,
}


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("config.json", {"text_config": HUGE}, "far more than its|needs"),
        ("config.json", {"projection_dim": 10**9}, "not sensible"),
        ("config.json", {"model_type": "llama"}, "not the configuration of a CLIP"),
        ("preprocessor_config.json", {"size": {"shortest_edge": 60_000}}, "make pictures"),
        ("preprocessor_config.json", {"crop_size": 31}, "make pictures"),
        ("preprocessor_config.json", {"image_std": [0, 1, 1]}, "make pictures"),
        ("preprocessor_config.json", {"image_mean": "grey"}, "make pictures"),
        ("tokenizer.json", {"model": {}}, "tokenizer"),
    ],
)
def test_a_strangers_clip_is_looked_at_before_it_is_made(clip, tmp_path, name, changes, words):
    clip.save(tmp_path)
    change_json(tmp_path / name, **changes)
    with pytest.raises(RepositoryError, match=words) as caught:
        CLIP.load(str(tmp_path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_clip_of_the_hub_is_looked_at_as_well(clip, tmp_path):
    program = """
import json
from eat_hf.adapters.clip import CLIP
from eat_hf.errors import UserError
said = []
for name in ("ann/clip", "ann/huge", "ann/none"):
    try:
        said.append(CLIP.load(name).embed_text("a smile").shape[1])
    except UserError as error:
        said.append(str(error))
print(json.dumps(said))
"""
    hub = Hub()
    try:
        for name in ("clip", "huge"):
            clip.save(tmp_path / name)
            if name == "huge":
                change_json(tmp_path / "huge" / "config.json", text_config=HUGE)
            files = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
            blobs = {file: Blob(data, file.endswith(".safetensors")) for file, data in files.items()}
            hub.large_files.update({blob.oid: blob.content for blob in blobs.values() if blob.large})
            hub.repositories[f"ann/{name}"] = Repository()
            hub.repositories[f"ann/{name}"].commit("main", blobs)
        found, huge, none = run(program, hub.client_environment(tmp_path / "home"))
    finally:
        hub.close()
    assert found == 8 and re.search("far more than its|needs", huge) and "neither a folder nor" in none


# By tuning ------------------------------------------------------------------------------------------------------------


def learn(pipe, crop, name="grin", **options):
    settings = {"options": FAST, "generator": 0, "head_motion": "still", **options}
    with pytest.warns(InputWarning, match="own small CLIP judges"):
        return pipe.learn_emotion("a very broad smile", crop, AUDIO, name, **settings)


@pytest.fixture
def aligned(monkeypatch):
    """Portraits as they are: alignment is not what this is about."""
    prepare = EATPipeline.prepare_portrait
    monkeypatch.setattr(EATPipeline, "prepare_portrait", lambda self, image: prepare(self, image, align=False))


def test_tuning_makes_frames_more_alike_to_the_text(pipe, crop, aligned, tmp_path):
    before = {name: value.clone() for part in pipe.components.values() for name, value in part.state_dict().items()}
    start = pipe.text_adapter("a very broad smile", "start")
    seen = []
    adapter = learn(pipe, crop, watch=seen.append)
    assert [each.step for each in seen] == list(range(7)) and seen[-1].preview.shape == (256, 256, 3)
    assert [each.looked for each in seen] == [0] * 5 + [5, 6]
    assert seen[-1].best > seen[0].similarity + 1e-5  # the tiny CLIP finds all pictures rather alike
    assert adapter.config.training["similarity"] == pytest.approx(seen[-1].best, abs=1e-4)
    after = {name: value for part in pipe.components.values() for name, value in part.state_dict().items()}
    assert all(torch.equal(before[name], after[name]) for name in before)
    changed = {
        name.partition(".")[0]
        for name, part in adapter.parts.items()
        for key, value in part.state_dict().items()
        if not torch.equal(value, start.parts[name].state_dict()[key])
    }
    assert changed == {"emotion_mapper", "a2et", "repos_net"}  # M's head and the EAMs, not EDN
    assert pipe.emotions[-1] == "grin"


@pytest.mark.slow
def test_a_learnt_emotion_is_for_other_portraits_too(pipe, crop, aligned, tmp_path, monkeypatch):
    adapter = learn(pipe, crop)
    adapter.save(tmp_path / "grin")
    monkeypatch.undo()
    other = np.ascontiguousarray(crop[:, ::-1])
    shown = frames(pipe, other, "grin")
    fresh = EATPipeline.from_pretrained(pipe.name_or_path)
    fresh.load_adapter(tmp_path / "grin")
    assert np.abs(frames(fresh, other, "grin") - shown).max() <= 1
    assert np.abs(shown - frames(pipe, other)).max() > 3


def test_tuning_stops_when_told_to_and_keeps_the_best(pipe, crop, aligned, monkeypatch):
    seen, embed = [], CLIP.embed_pictures
    with monkeypatch.context() as patch:
        patch.setattr(CLIP, "embed_pictures", lambda self, pictures: seen.append(pictures) or embed(self, pictures))
        adapter = learn(pipe, crop, watch=lambda reached: reached.step < 2)
    assert adapter.config.training["steps"] == 2
    looks = [pictures for pictures in seen if not pictures.requires_grad]
    assert len(looks) == 2 and len(seen) == 2 + 2  # before the first step, and after the last
    worse = dataclasses.replace(FAST, steps=3, clip_weight=-100.0)  # away from the text: the start stays the best
    kept = learn(pipe, crop, "frown", options=worse)
    start = pipe.text_adapter("a very broad smile", "frown")
    for name, tensor in kept.tensors().items():
        torch.testing.assert_close(tensor, start.tensors()[name])


def test_nothing_is_learnt_from_what_cannot_be_used(pipe, crop, clip):
    with pytest.raises(UserError, match="an emotion 'happy' already"):
        pipe.learn_emotion("a smile", crop, AUDIO, "happy", clip=clip)
    with pytest.raises(UserError, match="text is empty"):
        pipe.learn_emotion(" ", crop, AUDIO, "grin", clip=clip)
    with pytest.raises(UserError, match="[Nn]o face"):
        pipe.learn_emotion("a smile", np.zeros((256, 256, 3), np.uint8), AUDIO, "grin", clip=clip)
    assert "grin" not in pipe.emotions


def test_lips_are_kept_on_the_sound(model, pipe, crop, aligned, tmp_path, monkeypatch):
    torch.manual_seed(0)
    expert = SyncExpert(width=1 / 16)
    options = dataclasses.replace(FAST, clip_weight=0.0, steps=2)
    asked, forward = [], SyncLoss.forward

    def listen(*given):
        asked.append(forward(*given))
        return asked[-1]

    monkeypatch.setattr(SyncLoss, "forward", listen)
    learn(pipe, crop, "silent", options=options)
    assert not asked  # this model has no expert
    learn(pipe, crop, "heard", options=options, sync_expert=expert)
    assert len(asked) == 2 and all(loss.requires_grad and loss > 0 for loss in asked)
    shutil.copytree(model, tmp_path / "model")
    expert.save_pretrained(tmp_path / "model/words/sync_expert")
    learn(EATPipeline.from_pretrained(tmp_path / "model"), crop, "heard", options=options)
    assert [loss.item() for loss in asked[2:]] == pytest.approx([loss.item() for loss in asked[:2]])


def test_the_expert_looks_at_the_face(pipe, portrait):
    """An aligned face is where dlib finds it, and the square moves along."""
    seen = pipe.prepare_portrait(portrait)
    [face] = detect_faces(seen.aligned.crop)
    box = expert_boxes((face.landmarks[None] + 0.5) / 128 - 1)[0]
    squares = face_squares(seen.keypoints)
    still, moved = squares(torch.cat([seen.keypoints, seen.keypoints + torch.tensor([0.1, -0.05, 0])]))
    np.testing.assert_allclose(still[:2], (box[:2] + box[2:]) / 2, atol=0.06)
    assert still[2] == pytest.approx((box[2] - box[0]) / 2, rel=0.15)
    torch.testing.assert_close(moved - still, torch.tensor([0.1, -0.05, 0]))


def test_too_little_memory_is_said(pipe, crop, aligned, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: 1 bytes")

    monkeypatch.setattr(CLIP, "embed_pictures", fail)
    with pytest.raises(UserError, match="not enough memory"):
        learn(pipe, crop)
    assert "grin" not in pipe.emotions


@pytest.mark.slow
def test_the_command_line(model, portrait_file, recording_file, tmp_path):
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}

    def run(*arguments):
        command = [sys.executable, "-m", "eat_hf.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    given = ("--image", portrait_file, "--audio", recording_file, "--model", model)
    learnt = run("learn-emotion", "--text", "a smile", *given, "--steps", "1", "-o", tmp_path / "grin")
    assert learnt.returncode == 0, learnt.stderr
    assert learnt.stdout.strip() == str(tmp_path / "grin") and "similarity" in learnt.stderr
    shown = run("info", tmp_path / "grin")
    assert "emotion adapter: grin" in shown.stdout and "text a smile" in shown.stdout
    again = run("learn-emotion", "--text", "a smile", *given, "-o", tmp_path / "grin")
    assert again.returncode == 2 and "not empty" in again.stderr
    empty = run("learn-emotion", "--text", "", *given, "-o", tmp_path / "none")
    assert empty.returncode == 2 and "text is empty" in empty.stderr and not (tmp_path / "none").exists()
    video = run("generate", *given, "--emotion-text", "a smile", "-o", tmp_path / "out.mp4")
    assert video.returncode == 0 and (tmp_path / "out.mp4").stat().st_size > 1000
    both = run("generate", *given, "--emotion-text", "a smile", "--emotion", "sad", "-o", tmp_path / "both.mp4")
    assert both.returncode == 2 and "Give one of" in both.stderr


def test_tuning_leaves_every_network_as_trainable_as_it_was(pipe, crop, aligned):
    for number, weight in enumerate(weight for each in pipe.components.values() for weight in each.parameters()):
        weight.requires_grad_(number % 2 == 0)
    before = {name: [w.requires_grad for w in each.parameters()] for name, each in pipe.components.items()}
    learn(pipe, crop, options=dataclasses.replace(FAST, steps=1))
    assert {name: [w.requires_grad for w in each.parameters()] for name, each in pipe.components.items()} == before
