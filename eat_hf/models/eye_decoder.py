"""What a portrait does not show of its eyes: lids that close over them, and what opening lids or a turning eye bare.

Moving the picture alone stretches lashes over the eye or leaves smudges. Here the eyes are drawn where they change, and
stay the portrait's own where they do not.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAPS = 7


@dataclass
class EyePoints:
    """Of both eyes of N frames, (N, 2, 2) each: the picture's left and right eye, x and y."""

    outer: Tensor
    inner: Tensor
    upper: Tensor
    lower: Tensor
    pupil: Tensor

    @classmethod
    def of(cls, keypoints: Tensor, indices: list[int]) -> "EyePoints":
        """keypoints (N, K, 3); ten indices, see `EyeDecoder`."""
        return cls(*keypoints[:, indices, :2].unflatten(1, (5, 2)).unbind(1))

    @property
    def width(self) -> Tensor:
        """(N, 2)"""
        return (self.outer - self.inner).norm(dim=-1).clamp_min(0.02)

    @property
    def openness(self) -> Tensor:
        """(N, 2) distance of the lids in widths of the eye, about 0 to 0.4."""
        return (self.lower - self.upper).norm(dim=-1) / self.width

    @property
    def gaze(self) -> Tensor:
        """(N, 2, 2) pupil from the middle between the corners, in widths of the eye."""
        return (self.pupil - (self.outer + self.inner) / 2) / self.width[..., None]


class EyeDecoder(nn.Module):
    """A few convolutions at the density of the picture, on a band around both eyes.

    Args:
        eyes: indices of ten keypoints: outer corner, inner corner, upper lid, lower lid and pupil, each of the
            picture's left and right eye.
        channels: width of the layers.
        dilations: of the layers; they must see as far as from the brow to the cheek.
    """

    UNCHANGED, CHANGED = 0.04, 0.12  # widths of the eye that lids or pupil move before it is drawn, in part and in full

    def __init__(self, eyes: tuple[int, ...], channels: int = 24, dilations: tuple[int, ...] = (1, 2, 4, 2, 1)):
        super().__init__()
        self.eyes = list(eyes)
        widths = (3 + MAPS, *(channels for _ in dilations))
        self.layers = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=d, dilation=d) for i, o, d in zip(widths, widths[1:], dilations, strict=False)
        )
        self.to_rgb = nn.Conv2d(channels, 3, 3, padding=1)
        for parameter in self.to_rgb.parameters():
            nn.init.zeros_(parameter)  # at first the eyes stay as the picture has them

    def band(self, keypoints: Tensor) -> Tensor:
        """Corners (N, 4, 2) of what is drawn, x and y."""
        eyes = EyePoints.of(keypoints, self.eyes)
        reach = torch.stack([0.45 * eyes.width, 0.6 * eyes.width], -1)
        middle = (eyes.outer + eyes.inner) / 2
        half = torch.stack([eyes.width / 2, torch.zeros_like(eyes.width)], -1)
        return torch.cat([middle - half - reach, middle + half + reach], 1)

    def maps(self, source: Tensor, driving: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Where lids and pupils are, and where to draw.

        Args:
            source, driving: keypoints (N, K, 3).
            places: (N, h, w, 2), x and y of the pixels.

        Returns:
            (N, MAPS, h, w), of the nearer eye: heights below the upper and the lower lid, place along the eye, distance
            from the pupil, how open it is, how open it was, how far the pupil has moved; and (N, 1, h, w) in [0, 1].
        """
        before, now = EyePoints.of(source, self.eyes), EyePoints.of(driving, self.eyes)
        middle = (now.outer + now.inner) / 2
        far = torch.stack([(places - middle[:, i, None, None]).square().sum(-1) for i in (0, 1)])
        right = (far[1] < far[0])[..., None]

        def nearer(values: Tensor) -> Tensor:
            """(N, 2, C) -> (N, h, w, C)"""
            return torch.where(right, values[:, 1, None, None], values[:, 0, None, None])

        width = nearer(now.width[..., None])[..., 0]
        axis = (now.outer - now.inner) / now.width[..., None]
        down = torch.stack([-axis[..., 1], axis[..., 0]], -1)
        down = down * torch.where(down[..., 1:] < 0, -1.0, 1.0)
        offset = (places - nearer(middle)) / width[..., None]
        along, height = (offset * nearer(axis)).sum(-1), (offset * nearer(down)).sum(-1)
        arch = (1 - (2 * along).square()).clamp_min(-0.5)  # a lid is a parabola between the corners

        def lid(points: Tensor) -> Tensor:
            top = ((points - middle) * down).sum(-1) / now.width
            return nearer(top[..., None])[..., 0] * arch

        pupil = (places - nearer(now.pupil)).norm(dim=-1) / width
        moved_lids, moved_pupil = now.openness - before.openness, (now.gaze - before.gaze).norm(dim=-1)
        single = [nearer(value[..., None])[..., 0] for value in (now.openness, before.openness, moved_pupil)]
        maps = torch.stack([height - lid(now.upper), height - lid(now.lower), along, pupil, *single], 1)

        change = torch.maximum(moved_lids.abs(), moved_pupil)
        change = ((change - self.UNCHANGED) / (self.CHANGED - self.UNCHANGED)).clamp(0, 1)
        ellipse = (along / 0.72).square() + ((height + 0.04) / 0.42).square()
        where = (4 * (1 - ellipse)).clamp(0, 1) * nearer(change[..., None])[..., 0]
        return maps.clamp(-2, 2), where[:, None]

    def forward(self, picture: Tensor, maps: Tensor, where: Tensor) -> Tensor:
        """A part of the moved portrait (N, 3, h, w), with `maps` for it -> the same with its eyes drawn."""
        x = torch.cat([picture, maps], 1).to(self.to_rgb.weight.dtype)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
        drawn = torch.sigmoid(self.to_rgb(x).float() + torch.logit(picture.clamp(0.02, 0.98)))
        return picture + where * (drawn - picture)
