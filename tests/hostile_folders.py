"""Models and adapters that a stranger has spoilt, each in its own way."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

Spoil = Callable[[Path], None]
WEIGHTS = "diffusion_pytorch_model.safetensors"
COMPONENTS = ("keypoint_detector", "motion_estimator", "emotion_mapper", "a2et", "edn", "repos_net", "speech_encoder",
              "expression_basis")  # fmt: skip
LARGE = {
    "keypoint_detector": "keypoints", "motion_estimator": "blocks", "emotion_mapper": "depth", "a2et": "layers",
    "edn": "layers", "repos_net": "volume_blocks", "speech_encoder": "hidden", "expression_basis": "keypoints",
}  # fmt: skip


def changed(**values) -> Spoil:
    def spoil(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return spoil


def written(content: bytes) -> Spoil:
    def spoil(path: Path) -> None:
        path.write_bytes(content)

    return spoil


def removed(path: Path) -> None:
    path.unlink()


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe_in_its_place(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def linked(target: str) -> Spoil:
    def spoil(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return spoil


def twice(path: Path) -> None:
    text = path.read_text().strip()
    key = next(iter(json.loads(text)))
    path.write_text(f'{{"{key}": "x", {text[1:]}')


def cut(share: float) -> Spoil:
    def spoil(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])

    return spoil


def numbers(value: float) -> Spoil:
    def spoil(path: Path) -> None:
        tensors = load_file(path)
        name = next(name for name in sorted(tensors) if tensors[name].is_floating_point())
        tensors[name].reshape(-1)[0] = value
        save_file(tensors, path, {"format": "pt"})

    return spoil


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Spoil:
    def spoil(path: Path) -> None:
        content = load_file(path)
        change(content)  # in place
        save_file(content, path, {"format": "pt"})

    return spoil


def integers(content: dict[str, torch.Tensor]) -> None:
    name = min(name for name in content if content[name].is_floating_point())
    content[name] = torch.ones(content[name].shape, dtype=torch.int64)


def header(text: bytes) -> Spoil:
    return written(struct.pack("<Q", len(text)) + text)


def sparse(path: Path) -> None:
    os.truncate(path, 2**36)


JSON = {
    "empty": written(b""),
    "not JSON": written(b"<html>"),
    "a list": written(b"[1, 2]"),
    "null": written(b"null"),
    "no UTF-8": written(b"\xff\xfe\x00{"),
    "cut off": cut(0.6),
    "nested 100,000 deep": written(b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "nested 200 deep": changed(training=json.loads("[" * 200 + "]" * 200)),
    "100 MB": written(b'{"a": "' + b"x" * 100_000_000 + b'"}'),
    "a number of 5,000 digits": written(b'{"a": ' + b"9" * 5000 + b"}"),
    "a key twice": twice,
    "NaN": changed(temperature=float("nan")),
    "missing": removed,
    "a folder": folder_in_its_place,
    "a pipe": pipe_in_its_place,
    "a link to a device": linked("/dev/zero"),
    "a link to nothing": linked("nowhere"),
    "a link to another's file": linked("/etc/hostname"),
}
SAFETENSORS = {
    "empty": written(b""),
    "text": written(b"not tensors"),
    "a pickle": written(b"\x80\x02}q\x00."),
    "cut off": cut(0.7),
    "cut in its header": cut(0.01),
    "a header of 2**60 bytes": written(struct.pack("<Q", 2**60) + b"{}"),
    "a header that is a list": header(b"[]"),
    "a header nested 100,000 deep": header(b"[" * 100_000),
    "no tensors": header(b"{}"),
    "a tensor twice": header(
        b'{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    ),
    "a tensor beyond the end": header(b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'),
    "NaN": numbers(float("nan")),
    "infinite": numbers(float("-inf")),
    "a tensor less": tensors(lambda content: content.pop(min(content))),
    "a tensor more": tensors(lambda content: content.update(more=torch.ones(1))),
    "integers": tensors(integers),
    "missing": removed,
    "a folder": folder_in_its_place,
    "a pipe": pipe_in_its_place,
    "64 GB": sparse,
}
HUGE = (10**9, 65_536, -1, 0, 1.5, "many", None, True, [], [10**9], [[1]], {})


def spoilt_models() -> Iterator[tuple[str, Spoil]]:
    """What it is, and what does it to a model's folder."""

    def at(path: str, spoil: Spoil) -> Spoil:
        return lambda folder: spoil(folder / path)

    for what, spoil in JSON.items():
        yield f"model_index.json: {what}", at("model_index.json", spoil)
        yield f"edn/config.json: {what}", at("edn/config.json", spoil)
    for what, spoil in SAFETENSORS.items():
        yield f"a2et: {what}", at(f"a2et/{WEIGHTS}", spoil)
        yield f"emotion_mapper: {what}", at(f"emotion_mapper/{WEIGHTS}", spoil)
    for component, setting in LARGE.items():
        for value in HUGE:
            yield f"{component}.{setting}={value}", at(f"{component}/config.json", changed(**{setting: value}))
    for entry in (["os", "system"], ["eat_hf", "RePosNet"], ["eat_hf", "EATPipeline"], ["edn", "EDN"], "EDN", [], None,
                  [None, None], ["transformers", "CLIPModel"], [["eat_hf"], {}]):  # fmt: skip
        yield f"edn is {entry}", at("model_index.json", changed(edn=entry))
    for one, other in zip(COMPONENTS, COMPONENTS[1:], strict=False):
        yield (
            f"weights of {one} are those of {other}",
            lambda folder, one=one, other=other: (
                (folder / one / WEIGHTS).write_bytes((folder / other / WEIGHTS).read_bytes()) and None
            ),
        )
    for name in ("window", "downscale", "blur_size", "temperature", "map_size", "heads", "dropout", "pooled_size"):
        for component in ("keypoint_detector", "a2et", "motion_estimator"):
            yield f"{component}.{name} is huge", at(f"{component}/config.json", changed(**{name: 60_000}))
    yield "emotions twice", at("emotion_mapper/config.json", changed(emotions=["happy"] * 8))
    yield "emotions of two lines", at("emotion_mapper/config.json", changed(emotions=list("abcdefg") + ["h\ni"]))
    yield (
        "an index of shards elsewhere",
        at(f"edn/{WEIGHTS}.index.json", written(b'{"weight_map": {"a": "../a2et/' + WEIGHTS.encode() + b'"}}')),
    )
    yield "an index of no shards", at(f"edn/{WEIGHTS}.index.json", written(b'{"weight_map": 3}'))


def spoilt_adapters() -> Iterator[tuple[str, Spoil]]:
    """What it is, and what does it to an adapter's folder."""
    for name, kinds in (("adapter_config.json", JSON), ("adapter_model.safetensors", SAFETENSORS)):
        for what, spoil in kinds.items():
            yield f"{name}: {what}", lambda folder, name=name, spoil=spoil: spoil(folder / name)
    for values in (
        {"emotions": [f"e{n}" for n in range(2000)]}, {"emotions": []}, {"emotions": ["a", "a"]}, {"emotions": "happy"},
        {"emotions": ["a\nb"]}, {"emotions": [""]}, {"emotions": [" "]}, {"emotions": [1]}, {"emotions": ["x" * 10**5]},
        {"prompt_type": "x\ny"}, {"prompt_type": 3}, {"base_fingerprint": {}}, {"base_fingerprint": {"a2et": "0"}},
        {"base_model": "x\n" * 50, "base_fingerprint": {"a2et": "0"}}, {"base_parameters": 10**30}, {"training": []},
        {"training": {"x" * 10: [0] * 10_000}}, {"x\ny": 1, "emotions": []},
    ):  # fmt: skip
        yield str(values)[:60], lambda folder, values=values: changed(**values)(folder / "adapter_config.json")
