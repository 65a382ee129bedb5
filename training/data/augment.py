"""Augmentation that keeps labels exact: colour, blur, noise, occlusion, and similarity transforms of the picture."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from eat_hf.keypoints import OFFICIAL_PI, rotation_from_degrees
from eat_hf.models.layers import pixel_grid

Labels = dict[str, Tensor]

# luma and two axes of chroma of NTSC, from red, green, blue
YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def uniform(count: int, low: float, high: float, *shape: int, like: Tensor | None = None) -> Tensor:
    """Random numbers (count, *shape), where `like` is."""
    return torch.empty(count, *shape, device=None if like is None else like.device).uniform_(low, high)


def normal(count: int, *shape: int, like: Tensor) -> Tensor:
    return torch.randn(count, *shape, device=like.device)


def jitter_colour(pictures: Tensor) -> Tensor:
    """Gain per channel, brightness, contrast and gamma, drawn per picture: (N, 3, H, W) in [0, 1] -> same."""
    n = len(pictures)
    x = pictures * (1 + 0.12 * normal(n, 3, 1, 1, like=pictures)) + 0.05 * normal(n, 1, 1, 1, like=pictures)
    x = (x - 0.5) * (1 + 0.2 * normal(n, 1, 1, 1, like=pictures)) + 0.5
    return x.clamp(1e-4, 1).pow(uniform(n, 0.75, 1.35, 1, 1, 1, like=pictures))


def vary_colour(pictures: Tensor, amount: float = 0.1) -> Tensor:
    """The published colour jitter: brightness, contrast and saturation by up to 1 +- amount, hue by up to +- amount of
    a turn, drawn per picture: (N, 3, H, W) in [0, 1] -> same. Hue turns around the grey axis, in YIQ."""
    n = len(pictures)
    brightness, contrast, saturation = (uniform(n, 1 - amount, 1 + amount, 1, 1, 1, like=pictures) for _ in range(3))
    turn = uniform(n, -2 * math.pi * amount, 2 * math.pi * amount, 1, 1, like=pictures)
    x = brightness * pictures
    y, i, q = torch.einsum("ij,njhw->nihw", YIQ.to(x), x).unbind(1)
    mean = y.mean((1, 2), keepdim=True)
    y = mean + contrast[:, 0] * (y - mean)
    chroma = (contrast * saturation)[:, 0]
    i, q = (chroma * (turn.cos() * i - turn.sin() * q), chroma * (turn.sin() * i + turn.cos() * q))
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(YIQ).to(x), torch.stack([y, i, q], 1)).clamp(0, 1)


def mirror(pictures: Tensor, angles: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Left and right change places: pictures (..., H, W), angles (..., 3) yaw, pitch, roll, and landmarks (..., P, 3),
    which keep their numbers, so that number 0 of a mirrored face is on its other side."""
    return pictures.flip(-1), angles * angles.new_tensor([-1, 1, -1]), landmarks * landmarks.new_tensor([-1, 1, 1])


def degrade(pictures: Tensor) -> Tensor:
    """Blur, sensor noise and an opaque patch (hair, a hand, a hat), each on some of the pictures."""
    n, _, height, width = pictures.shape
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.where(uniform(n, 0, 1, 1, 1, 1, like=pictures) < 0.4, blurred, pictures)
    x = x + uniform(n, 0, 0.04, 1, 1, 1, like=pictures) * torch.randn_like(x)
    for picture in (x[i] for i in range(n) if torch.rand(()) < 0.25):
        h, w = (int(size) for size in torch.randint(height // 12, height // 3, (2,)))
        top = int(torch.randint(0, height // 3 if torch.rand(()) < 0.7 else height - h, ()))
        left = int(torch.randint(0, width - w, ()))
        picture[:, top : top + h, left : left + w] = torch.rand(3, 1, 1).to(x)
    return x.clamp(0, 1)


def degrees_of(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """R (..., 3, 3) -> yaw, pitch, roll in degrees with R = R_pitch R_yaw R_roll."""
    yaw = torch.asin(rotation[..., 0, 2].clamp(-1, 1))
    pitch = torch.atan2(-rotation[..., 1, 2], rotation[..., 2, 2])
    roll = torch.atan2(-rotation[..., 0, 1], rotation[..., 0, 0])
    yaw, pitch, roll = (angle * 180 / OFFICIAL_PI for angle in (yaw, pitch, roll))
    return yaw, pitch, roll


def transform_similarity(
    pictures: Tensor, labels: Labels, max_roll: float = 12, max_scale: float = 0.15, max_shift: float = 0.12
) -> tuple[Tensor, Labels]:
    """Turn, scale and shift each picture in its plane, and every label with it.

    labels holds keypoints (N, K, 3), yaw, pitch, roll (N,), translation (N, 3), expression and canonical (N, K, 3).
    """
    n = len(pictures)
    angle = uniform(n, -max_roll, max_roll, like=pictures) * math.pi / 180
    scale = uniform(n, 1 - max_scale, 1 + max_scale, like=pictures)[:, None, None]
    shift = F.pad(uniform(n, -max_shift, max_shift, 2, like=pictures), (0, 1))
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    c, s = angle.cos(), angle.sin()
    turn = torch.stack([c, -s, zero, s, c, zero, zero, zero, one], -1).view(n, 3, 3)

    # where each output pixel is fetched from: the inverse of x -> scale * turn x + shift
    grid = pixel_grid(*pictures.shape[2:], like=pictures).flatten(0, 1)
    where = ((grid - shift[:, None, :2]) / scale) @ turn[:, :2, :2]
    where = where.unflatten(1, pictures.shape[2:])
    moved = F.grid_sample(pictures, where, padding_mode="reflection", align_corners=False)

    rotation = turn @ rotation_from_degrees(labels["yaw"], labels["pitch"], labels["roll"])
    yaw, pitch, roll = degrees_of(rotation)
    return moved, {
        **labels,
        "keypoints": scale * labels["keypoints"] @ turn.mT + shift[:, None],
        "canonical": scale * labels["canonical"],
        "expression": scale * labels["expression"],
        "translation": scale[:, 0] * (labels["translation"][:, None] @ turn.mT)[:, 0] + shift,
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
    }


def vary_bands(mel: Tensor) -> Tensor:
    """Other voices and lines: log-mel rows (N, rows, windows, bands) with their bands stretched, as longer and shorter
    vocal tracts do, louder or softer, tilted, and with some bands and some rows blank."""
    n, rows, _, bands = mel.shape
    place = torch.arange(bands) * uniform(n, 0.87, 1.15, 1)
    place = place.clamp(max=bands - 1)
    low = place.floor().long().clamp(max=bands - 2)
    share = (place - low)[:, None, None]
    below, above = (mel.gather(3, (low + k)[:, None, None].expand_as(mel)) for k in (0, 1))
    x = below + share * (above - below)
    tilt = uniform(n, -0.4, 0.4, 1) * torch.linspace(-1, 1, bands)
    x = x + (uniform(n, -0.5, 0.5, 1) + tilt)[:, None, None]
    for length, widest, shape in ((bands, bands // 6, (n, 1, 1, bands)), (rows, rows // 12, (n, rows, 1, 1))):
        start = uniform(n, 0, length, 1)
        inside = torch.arange(length) - start
        blank = (inside >= 0) & (inside < uniform(n, -widest, widest, 1))
        x = torch.where(blank.view(shape), x.mean((1, 2, 3), keepdim=True), x)
    return x
