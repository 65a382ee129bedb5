"""Faces that are no people's, made of faces that are: what a landmark network must learn to refuse.

The corpus has people alone. Here their features move to where animals have them, fur covers their skin, dark noses,
eyes without white and lips that are a line are painted over their own; other pictures show no face at all.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.augment import normal, uniform

# Points of the face that are moved, as means of landmarks, and how far they move at most, along (x, y) of the upright
# face, in distances of the outer eye corners: eyes apart or together and down, noses up or down, mouths to the nose
MOVED: tuple[tuple[slice | list[int], tuple[float, float]], ...] = (
    (slice(36, 42), (0.25, 0.2)),
    (slice(42, 48), (-0.25, 0.2)),
    (slice(30, 36), (0.0, 0.35)),
    ([48, 49, 59, 60], (0.3, 0.35)),
    ([53, 54, 55, 64], (-0.3, 0.35)),
    ([51, 57, 62, 66], (0.0, 0.35)),
    (slice(2, 6), (0.4, 0.3)),
    (slice(11, 15), (-0.4, 0.3)),
    (slice(7, 10), (0.0, 0.4)),
)


def without_people(pictures: Tensor, landmarks: Tensor) -> Tensor:
    """Crops around people's faces (N, 3, S, S) in [0, 1], with landmarks (N, 68, 2) in [-1, 1], made into others."""
    n = len(pictures)
    furry, points, eyes = _moved(pictures, landmarks)
    furry = _painted(_furred(furry, points, eyes), points, eyes)
    # a part of the picture: skin, hair, background
    middle = uniform(n, -0.9, 0.9, 2, like=pictures)
    zoom = torch.eye(2).to(pictures) * uniform(n, 0.1, 0.35, 1, 1, like=pictures)
    grid = F.affine_grid(torch.cat([zoom, middle[..., None]], 2), list(pictures.shape), align_corners=False)
    parts = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return torch.where(uniform(n, 0, 1, 1, 1, 1, like=pictures) < 0.85, furry, parts)


def fur(n: int, size: int, like: Tensor) -> Tensor:
    """Streaks of one direction a picture, (N, 1, S, S), of mean 0 and deviation 1."""
    noise = normal(n, 1, 24, 128, like=like)
    angle = uniform(n, 0, torch.pi, like=like)
    c, s = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2) * uniform(n, 0.4, 1.0, 1, 1, like=like)
    theta = torch.cat([turn, torch.zeros_like(turn[..., :1])], 2)
    grid = F.affine_grid(theta, [n, 1, size, size], align_corners=False)
    streaks = F.grid_sample(noise, grid, padding_mode="reflection", align_corners=False)
    return streaks / streaks.std((1, 2, 3), keepdim=True)


def _moved(pictures: Tensor, landmarks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures whose features have moved, their landmarks, and (N, 2) from outer eye corner to outer eye corner."""
    n, _, height, width = pictures.shape
    across = landmarks[:, 45] - landmarks[:, 36]
    down = torch.stack([-across[:, 1], across[:, 0]], -1)
    places = torch.stack([landmarks[:, chosen].mean(1) for chosen, _ in MOVED], 1)
    reach = torch.tensor([limits for _, limits in MOVED]).to(places)
    # both sides alike: one number for all that move across, one each for eyes, nose, mouth and jaw down
    sideways, upright = uniform(n, -1, 1, 3, like=places), uniform(n, -1, 1, 4, like=places)
    groups = [0, 0, 1, 2, 2, 2, 3, 3, 3]
    along_x = sideways[:, [0, 0, 0, 1, 1, 1, 2, 2, 2]] * reach[:, 0]
    along_y = upright[:, groups] * reach[:, 1]
    moves = along_x[..., None] * across[:, None] + along_y[..., None] * down[:, None]

    size = across.norm(dim=-1)

    def field(where: Tensor) -> Tensor:
        distance = (where[:, :, None] - places[:, None]).square().sum(-1) / (0.3 * size)[:, None, None].square()
        weight = (-distance).exp()
        return (weight / weight.sum(2, keepdim=True).clamp(min=1)) @ moves

    y, x = torch.meshgrid(
        *(torch.linspace(-1 + 1 / k, 1 - 1 / k, k, device=pictures.device) for k in (height, width)), indexing="ij"
    )
    grid = torch.stack([x, y], -1).flatten(0, 1).expand(n, -1, -1)
    grid = (grid - field(grid)).unflatten(1, (height, width))
    moved = F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    return moved, landmarks + field(landmarks), across


def _spot(where: Tensor, radius: Tensor, size: int, soft: float = 6.0) -> Tensor:
    """(N, 1, S, S) in [0, 1]: ellipses around (N, 2) of radius (N, 2)."""
    axis = torch.linspace(-1 + 1 / size, 1 - 1 / size, size, device=where.device)
    x = (axis[None, None] - where[:, 0, None, None]) / radius[:, 0, None, None]
    y = (axis[None, :, None] - where[:, 1, None, None]) / radius[:, 1, None, None]
    return ((1 - (x.square() + y.square()).sqrt()) * soft + 0.5).clamp(0, 1)[:, None]


def _furred(pictures: Tensor, points: Tensor, across: Tensor) -> Tensor:
    """Fur of one or two colours over the skin, or all around a bare face."""
    n, _, size, _ = pictures.shape
    wide = across.norm(dim=-1, keepdim=True)
    colours = uniform(n, 0.02, 1, 2, 1, 1, 1, like=pictures) * (
        1 + uniform(n, -0.25, 0.25, 2, 3, 1, 1, like=pictures)
    )  # a brightness, and something of a hue
    patches = F.interpolate(normal(n, 1, 5, 5, like=pictures), size=size, mode="bicubic")
    both = (patches + patches.flip(-1)) / 1.4  # marks are the same on both sides
    patches = torch.where(uniform(n, 0, 1, 1, 1, 1, like=pictures) < 0.6, both, patches)
    share = (patches * uniform(n, 1, 12, 1, 1, 1, like=pictures)).sigmoid()
    share = share * (uniform(n, 0, 1, 1, 1, 1, like=pictures) < 0.6)
    colour = colours[:, 0] + share * (colours[:, 1] - colours[:, 0])
    shade = F.avg_pool2d(F.pad(pictures.mean(1, keepdim=True), (6,) * 4, mode="replicate"), 13, 1)
    shade = (shade / shade.mean((2, 3), keepdim=True)).clamp(0.3, 2) ** 0.7
    coat = colour * shade * (1 + uniform(n, 0.05, 0.4, 1, 1, 1, like=pictures) * fur(n, size, pictures))
    face = points[:, 27:48].mean(1), wide * uniform(n, 0.8, 2.2, 2, like=wide)
    covered = _spot(*face, size, 3.0)
    bare = _spot(points[:, 27:68].mean(1), wide * uniform(n, 0.45, 0.75, 2, like=wide), size, 4.0)
    bare = bare * (uniform(n, 0, 1, 1, 1, 1, like=pictures) < 0.35)
    everywhere = (uniform(n, 0, 1, 1, 1, 1, like=pictures) < 0.4).float()
    strength = uniform(n, 0.7, 1, 1, 1, 1, like=pictures) * torch.maximum(covered, everywhere) * (1 - bare)
    eyes = torch.maximum(*(_spot(points[:, eye].mean(1), 0.2 * wide.expand(-1, 2), size) for eye in _EYES))
    return pictures + (strength * (1 - eyes)) * (coat - pictures)


_EYES = (slice(36, 42), slice(42, 48))


def _painted(pictures: Tensor, points: Tensor, across: Tensor) -> Tensor:
    """Most with a dark nose, with eyes without white, and with a line for a mouth."""
    n, _, size, _ = pictures.shape
    wide = across.norm(dim=-1, keepdim=True)

    def some(share: float) -> Tensor:
        return (uniform(n, 0, 1, 1, 1, 1, like=pictures) < share).float()

    def paint(x: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
        return x + mask * (colour - x)

    # lips vanish under what surrounds them, and a line stays
    mouth, spread = points[:, 48:68].mean(1), (points[:, 54] - points[:, 48]).norm(dim=-1, keepdim=True)
    around = _spot(mouth, torch.cat([0.75 * spread, 0.45 * wide], 1), size, 3.0)
    beside = F.grid_sample(pictures, points[:, None, [4, 12, 31, 35]], padding_mode="border", align_corners=False)
    beside = beside.mean((2, 3))[..., None, None] * (1 + 0.15 * fur(n, size, pictures))
    x = paint(pictures, around * some(0.75), beside)
    line = torch.cat([spread * uniform(n, 0.2, 0.8, 1, like=wide), wide * uniform(n, 0.015, 0.06, 1, like=wide)], 1)
    x = paint(x, _spot(mouth, line, size, 2.0) * some(0.6), 0.25 * x)
    # the nose: a dark or pink button, or nostrils alone
    radius = wide * uniform(n, 0.08, 0.24, 1, like=wide) * uniform(n, 0.7, 1.4, 2, like=wide)
    pink = torch.tensor([0.6, 0.35, 0.35]).to(x)[:, None, None]
    dark = torch.where(some(0.75) > 0, uniform(n, 0, 0.2, 1, 1, 1, like=x).expand(-1, 3, -1, -1), pink)
    button = some(0.7)
    x = paint(x, _spot(points[:, 30:36].mean(1), radius, size) * button, dark)
    shine = _spot(points[:, 30:36].mean(1) - 0.4 * radius, 0.35 * radius, size, 2.0) * some(0.5)
    x = paint(x, 0.6 * shine * button, torch.ones_like(x))
    # eyes: an iris from lid to lid
    radius = wide * uniform(n, 0.07, 0.2, 1, like=wide) * uniform(n, 0.9, 1.15, 2, like=wide)
    pupil = (
        radius
        * uniform(n, 0.3, 0.95, 1, like=wide)
        * torch.cat([uniform(n, 0.3, 1, 1, like=wide), torch.ones_like(wide)], 1)
    )
    iris = uniform(n, 0.05, 0.8, 3, 1, 1, like=x) * uniform(n, 0.2, 1, 1, 1, 1, like=x)
    round_eyes, glint = some(0.75), some(0.8)
    for eye in _EYES:
        place = points[:, eye].mean(1)
        x = paint(x, _spot(place, radius * 1.25, size) * round_eyes, 0.15 * iris)
        x = paint(x, _spot(place, radius, size) * round_eyes, iris)
        x = paint(x, _spot(place, pupil, size) * round_eyes, torch.zeros_like(x))
        x = paint(x, _spot(place - 0.3 * radius, 0.25 * radius, size, 2.0) * round_eyes * glint, torch.ones_like(x))
    return x.clamp(0, 1)
