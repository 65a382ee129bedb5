"""What users of diffusers expect of every pipeline holds for this one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import build_tiny_pipeline, voice
from diffusers import DiffusionPipeline

from eat_hf import EATPipeline
from eat_hf.adapters.emotion_adapter import EmotionAdapter
from eat_hf.errors import UserError

pytestmark = pytest.mark.usefixtures("faces_found_once")

AUDIO = voice(0.24), 16000
RATHER_SPECIAL = {
    "keypoint_space": "posed",
    "expression_frame": "head",
    "hull_volume_exponent": 0.5,
    "driving_centring": "none",
    "template_landmarks": [[60.0 + n, 110.0 + n / 2] for n in range(68)],
}


def frames(pipe, portrait, emotion="happy"):
    return pipe(portrait, AUDIO, emotion, generator=1, batch_size=4).frames


def difference(a, b):
    return np.abs(a.astype(int) - b).max()


@pytest.fixture(scope="module")
def expected(tiny_pipeline, portrait):
    return frames(tiny_pipeline, portrait)


def load(folder, **options):
    pipe = EATPipeline.from_pretrained(folder, **options)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def dtypes(pipe):
    return {name: module.dtype for name, module in pipe.components.items()}


# Loading


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
@pytest.mark.parametrize(
    "asked", [torch.bfloat16, "bfloat16", {"repos_net": "bfloat16"}, {"default": torch.bfloat16, "a2et": "float32"}]
)
def test_a_dtype_is_the_renderers(tiny_model, portrait, expected, name, asked):
    pipe = load(tiny_model, **{name: asked})
    found = dtypes(pipe)
    assert found.pop("repos_net") == torch.bfloat16 and set(found.values()) == {torch.float32}
    if (name, asked) == ("dtype", "bfloat16"):  # the others have the same networks; many processors are slow at this
        frame = next(pipe.stream(portrait, AUDIO, "happy", generator=1, batch_size=1))
        assert np.corrcoef(frame.ravel(), expected[0].ravel())[0, 1] > 0.9


def test_auto_is_as_saved(tiny_model, tmp_path):
    assert set(dtypes(load(tiny_model, dtype="auto")).values()) == {torch.float32}
    load(tiny_model, dtype=torch.float16).save_pretrained(tmp_path)
    assert load(tmp_path, dtype="auto").repos_net.dtype == torch.float16
    assert load(tmp_path).repos_net.dtype == torch.float32


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"a2et": "bfloat16"}, "a2et stays in float32"),
        ("bf16", "not 'bf16'"),
        (torch.int8, "floating-point"),
    ],
)
def test_other_dtypes_are_refused(tiny_model, asked, words):
    with pytest.raises(ValueError, match=words):
        load(tiny_model, dtype=asked)


@pytest.mark.parametrize("device_map", ["cpu", "balanced"])
def test_a_device_map(tiny_model, portrait, expected, device_map):
    pipe = load(tiny_model, device_map=device_map, dtype="float32")
    assert difference(frames(pipe, portrait), expected) <= 1


def test_diffusion_pipeline_finds_the_class(tiny_model, portrait, expected):
    pipe = DiffusionPipeline.from_pretrained(tiny_model)
    pipe.set_progress_bar_config(disable=True)
    assert type(pipe) is EATPipeline
    assert difference(frames(pipe, portrait), expected) <= 1


# Components


@pytest.mark.parametrize("make", [lambda pipe: EATPipeline(**pipe.components), EATPipeline.from_pipe])
def test_settings_travel_with_their_components(portrait, make):
    pipe = build_tiny_pipeline(**RATHER_SPECIAL)
    again = make(pipe)
    again.set_progress_bar_config(disable=True)
    assert difference(frames(again, portrait), frames(pipe, portrait)) <= 1


# Offloading, with this CPU in place of a GPU


OFFLOADS = {
    "model": lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
    "sequential": lambda pipe: pipe.enable_sequential_cpu_offload(device="cpu"),
    "group": lambda pipe: pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level"),
}


@pytest.mark.parametrize("how", OFFLOADS)
def test_offloaded_networks_make_the_same_frames(tiny_model, portrait, expected, how):
    pipe = load(tiny_model)
    OFFLOADS[how](pipe)
    for _ in range(2):  # hooks are there after the first clip, too
        assert difference(frames(pipe, portrait), expected) <= 1


MIXTURE = {"smirk": 0.6, "sad": 0.4}


def smirking(tiny_model):
    """The tiny pipeline with an adapter that shows."""
    pipe = load(tiny_model)
    adapter = EmotionAdapter.create(pipe.base, ["smirk"], "happy")
    with torch.no_grad():
        for part in adapter.parts.values():
            for parameter in part.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    pipe.add_adapter(adapter)
    return pipe


@pytest.fixture(scope="module")
def smirks(tiny_model, portrait, expected):
    """Frames of the adapter alone, and in a mixture."""
    pipe = smirking(tiny_model)
    alone, mixed = frames(pipe, portrait, "smirk"), frames(pipe, portrait, MIXTURE)
    assert difference(alone, expected) > 3
    return alone, mixed


@pytest.mark.parametrize("how", OFFLOADS)
def test_offloaded_networks_know_their_adapters(tiny_model, portrait, smirks, how):
    pipe = smirking(tiny_model)
    OFFLOADS[how](pipe)
    for found, wish in zip(smirks, ("smirk", MIXTURE), strict=True):
        assert difference(frames(pipe, portrait, wish), found) <= 1


def test_hooks_follow_the_order_of_a_clip(tiny_model):
    pipe = load(tiny_model)
    named = pipe.model_cpu_offload_seq.split("->")
    assert set(named) | set(pipe._exclude_from_cpu_offload) == set(pipe.components)


# Saving


def test_variants_and_shards(tiny_model, portrait, expected, tmp_path):
    load(tiny_model).save_pretrained(tmp_path, variant="fp32", max_shard_size="40KB")
    shards = sorted(path.name for path in (tmp_path / "a2et").glob("*.safetensors"))
    assert len(shards) > 1 and all(".fp32-0" in name for name in shards)
    index = json.loads((tmp_path / "a2et" / "diffusion_pytorch_model.safetensors.index.fp32.json").read_text())
    assert set(index["weight_map"].values()) == set(shards)
    assert difference(frames(load(tmp_path, variant="fp32"), portrait), expected) <= 1


def test_no_pickle_is_written(tiny_pipeline, tmp_path):
    with pytest.raises(ValueError, match="safetensors only"):
        tiny_pipeline.save_pretrained(tmp_path / "model", safe_serialization=False)
    assert not (tmp_path / "model").exists()


# Calling


def test_the_output_as_a_tuple(tiny_pipeline, portrait, expected):
    found, fps, audio, rate = tiny_pipeline(portrait, AUDIO, "happy", generator=1, return_dict=False)
    assert difference(found, expected) <= 1
    assert fps == 25 and rate == 16000 and np.allclose(audio[0], AUDIO[0])


def test_a_callback_after_every_chunk(tiny_pipeline, portrait, expected):
    seen = []

    def darken(pipe, number, given):
        assert pipe is tiny_pipeline
        seen.append((number, len(given["frames"])))
        return {"frames": given["frames"] // 2} if number else None

    out = tiny_pipeline(portrait, AUDIO, "happy", generator=1, batch_size=4, callback_on_chunk_end=darken)
    assert seen == [(0, 4), (1, 2)]
    assert difference(out.frames[:4], expected[:4]) <= 1
    assert difference(out.frames[4:], expected[4:] // 2) <= 1


def test_a_seed_of_numpy_is_a_seed(tiny_pipeline, portrait, expected):
    found = tiny_pipeline(portrait, AUDIO, "happy", generator=np.int64(1)).frames
    assert difference(found, expected) <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"generator": [1, 2]}, "one generator, or one seed, not a list"),
        ({"generator": [torch.Generator()]}, "one generator, or one seed, not a list"),
        ({"generator": 0.5}, "generator must be a torch.Generator or a whole number, not float"),
        ({"image": ["a.png", "b.png"]}, "image is one portrait, not several"),
        ({"image": np.zeros((2, 256, 256, 3), np.uint8)}, "image is one portrait, not several"),
        ({"batch_size": 2.0}, "batch_size must be a whole number"),
    ],
)
def test_what_other_pipelines_take_is_refused_by_name(tiny_pipeline, portrait, options, words):
    with pytest.raises(UserError, match=words):
        tiny_pipeline(**{"image": portrait, "audio": AUDIO, **options})


def test_a_folder_without_its_components_says_so(tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "edn")
    with pytest.raises(UserError, match=r"edn.config\.json cannot be read"):
        EATPipeline.from_pretrained(Path(tmp_path / "model"))
