"""A release of the authors' layout whose numbers anyone can draw again, and the inputs that the goldens belong to.

The real checkpoints cannot be had everywhere. `data/official/layout.json.gz` holds names, shapes and types of all their
tensors; each is filled from a random generator that depends on its name alone. `data/official/golden_*.npz` hold what
the authors' network computes with such weights.
"""

import functools
import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "data" / "official"
SEED = 0
POWER_STEPS = 60  # of the power iteration, after which the vectors of spectral norm no longer move


@functools.cache
def goldens(name: str) -> dict[str, np.ndarray]:
    """A file of them by name, such as "golden_seed0.npz"."""
    with np.load(FOLDER / name) as file:
        return dict(file)


def _numbers(key: str) -> np.random.Generator:
    seed = hashlib.sha256(key.encode()).digest()[:8]
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))


def _positions(count: int, width: int) -> np.ndarray:
    """Sine in even columns, cosine in odd ones."""
    column = np.arange(width)
    angle = np.arange(count)[:, None] / np.power(10000, 2 * (column // 2) / width)
    return np.where(column % 2 == 0, np.sin(angle), np.cos(angle))[None]


def _gaussian(channels: int, size: int = 13, sigma: float = 1.5) -> np.ndarray:
    profile = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * sigma**2))
    kernel = np.outer(profile, profile)
    return np.repeat((kernel / kernel.sum())[None, None], channels, 0)


def _tensor(network: str, name: str, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    last = name.rpartition(".")[2]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=getattr(torch, dtype))
    if last == "pos_table":
        return torch.from_numpy(_positions(*shape[1:]).astype(np.float32))
    if name == "down.weight":
        return torch.from_numpy(_gaussian(shape[0]).astype(np.float32))
    numbers = _numbers(f"{SEED}:{network}.{name}")
    if last in ("weight_u", "weight_v"):
        drawn = numbers.normal(0, 1, shape)
        drawn = drawn / np.linalg.norm(drawn)
    elif last == "running_var":
        drawn = numbers.uniform(0.5, 1.5, shape)
    elif last == "running_mean":
        drawn = numbers.normal(0, 0.1, shape)
    elif len(shape) > 1:
        drawn = numbers.normal(0, 1.0 / np.sqrt(int(np.prod(shape[1:]))), shape)
    elif last == "weight":
        drawn = numbers.uniform(0.8, 1.2, shape)
    else:
        drawn = numbers.normal(0, 0.05, shape)
    return torch.from_numpy(np.asarray(drawn, dtype=np.float32))


def _network(name: str, layout: dict[str, tuple[list[int], str]]) -> dict[str, torch.Tensor]:
    tensors = {key: _tensor(name, key, tuple(shape), dtype) for key, (shape, dtype) in layout.items()}
    for key in layout:
        if key.endswith("weight_u"):  # as after training, when they point along the largest singular value
            start = key.removesuffix("u")
            weight, u = tensors[start + "orig"].double().flatten(1), tensors[key].double()
            for _ in range(POWER_STEPS):
                v = weight.T @ u
                v /= v.norm()
                u = weight @ v
                u /= u.norm()
            tensors[key], tensors[start + "v"] = u.float(), v.float()
    return tensors


def pseudo_checkpoint(section: str) -> dict[str, dict[str, torch.Tensor]]:
    """The networks of a released file: "eat", "latent", "pretrain", "text" or "syncnet"."""
    layouts = json.loads(gzip.decompress((FOLDER / "layout.json.gz").read_bytes()))[section]
    return {name: _network(name, layout) for name, layout in layouts.items()}


def pseudo_input(name: str, shape: tuple[int, ...], kind: str = "normal", scale: float = 1.0) -> torch.Tensor:
    """An input behind the goldens: "normal" numbers of a scale, or "uniform" ones from 0 to 1."""
    numbers = _numbers(f"input:{SEED}:{name}")
    drawn = numbers.normal(0, scale, shape) if kind == "normal" else numbers.uniform(0, 1, shape)
    return torch.from_numpy(drawn.astype(np.float32))


def source_image() -> torch.Tensor:
    """The smooth picture behind the goldens, (1, 3, 256, 256) in [0, 1]."""
    y, x = np.mgrid[0:256, 0:256] / 255.0
    red = 0.5 + 0.4 * np.sin(6 * x + 2 * SEED) * np.cos(5 * y)
    green = 0.5 + 0.4 * np.cos(7 * x * y + SEED)
    blue = 0.4 + 0.5 * x * (1 - y)
    return torch.from_numpy(np.stack([red, green, blue]).astype(np.float32))[None].clamp(0, 1)
