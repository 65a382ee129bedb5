"""What a portrait does not show of its eyes: lids that close over them, and what opening lids or a turning eye bare.

Moving the picture alone squeezes the iris or stretches lashes over the eye. Here lids that close are unfolded in closed
form, a network adds what is still missing where eyes change, and where they do not they stay the portrait's own. Each
eye is a patch of its own, as seen from its outer to its inner corner, so that both are drawn alike.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..easing import smoothstep
from .layers import CheckpointedBlocks, for_convolutions, pixel_grid
from .patches import PatchPlane, in_tones_of

HEIGHT, WIDTH = 64, 96  # of the patch of an eye, in pixels
MAPS = 7
EYEBALL = 0.4  # its radius in widths of the eye between its corners: of people 12 of 30 mm
DEGREE = EYEBALL * math.pi / 180  # how far a pupil moves when the eye turns by that, in widths of the eye


@dataclass
class EyePoints:
    """Of the eyes of N frames, (N, 2, 2) each: the picture's left and right eye, x and y."""

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
    def middle(self) -> Tensor:
        """(N, 2, 2) between the corners."""
        return (self.outer + self.inner) / 2

    @property
    def width(self) -> Tensor:
        """(N, 2)"""
        return (self.outer - self.inner).norm(dim=-1).clamp_min(0.02)

    @property
    def openness(self) -> Tensor:
        """(N, 2) distance of the lids in widths of the eye, about 0 to 0.4."""
        return (self.lower - self.upper).norm(dim=-1) / self.width

    @property
    def axes(self) -> Tensor:
        """(N, 2, 2, 2) of length 1: from the outer to the inner corner, and down."""
        along = (self.inner - self.outer) / self.width[..., None]
        down = torch.stack([-along[..., 1], along[..., 0]], -1)
        return torch.stack([along, down * torch.where(down[..., 1:] < 0, -1.0, 1.0)], 2)

    def inward(self, vectors: Tensor) -> Tensor:
        """(N, 2, ..., 2) x and y in the picture -> along each eye's axes."""
        return _times(vectors, self.axes.mT)

    def outward(self, vectors: Tensor) -> Tensor:
        """The inverse of `inward`."""
        return _times(vectors, self.axes)

    def within(self, points: Tensor) -> Tensor:
        """Points (N, 2, 2) of the picture, one of each eye: from its middle along its axes, in widths of the eye."""
        return self.inward((points - self.middle) / self.width[..., None])

    @property
    def gaze(self) -> Tensor:
        """(N, 2, 2) pupil from the middle between the corners, in widths of the eye."""
        return (self.pupil - self.middle) / self.width[..., None]

    @property
    def looking(self) -> Tensor:
        """(N, 2) how far both pupils are to the right and up of the middle between the corners, in widths of the eye
        and along its axes."""
        return (self.inward(self.gaze) * self.gaze.new_tensor([[1, -1], [-1, -1]])).mean(1)


def _looked(before: EyePoints, now: EyePoints) -> Tensor:
    """How far pupils have moved along each eye's axes, (N, 2, 2) in widths of the eye."""
    return now.inward(now.gaze) - before.inward(before.gaze)


def _around(along: Tensor, height: Tensor) -> Tensor:
    """1 on an eye and its lids, 0 away from them; places in widths of the eye."""
    ellipse = (along / 0.72).square() + ((height + 0.04) / 0.42).square()
    return (4 * (1 - ellipse)).clamp(0, 1)


def _times(vectors: Tensor, matrices: Tensor) -> Tensor:
    """vectors (N, 2, ..., 2) times matrices (N, 2, 2, 2), one of each eye."""
    first, second = matrices.reshape(*matrices.shape[:2], *(1,) * (vectors.dim() - 3), 4).split(2, -1)
    return vectors[..., :1] * first + vectors[..., 1:] * second


class EyeDecoder(CheckpointedBlocks):
    """A few convolutions on the patch of every eye.

    Args:
        eyes: indices of ten keypoints: outer corner, inner corner, upper lid, lower lid and pupil, each of the
            picture's left and right eye.
        channels: width of the layers.
        dilations: of the layers; they must see as far as from the brow to the cheek.
    """

    REACH = 0.95, 0.62  # half of the patch's width and height, in widths of the eye
    UNCHANGED, CHANGED = 0.04, 0.12  # widths of the eye that lids or pupil move before it is drawn, in part and in full

    IRIS, WHITE = 0.2, 0.12  # widths of the eye: radius of the iris, and how far the white around it gives way at least
    LID_EDGE = 0.03  # widths of the eye below a lid that do not move
    FARTHEST = 0.078, 0.05  # widths of the eye that an iris moves to a side, and up or down: 11 and 7 degrees
    LASHES, FOLD = 0.06, 0.25  # widths of the eye beyond a lid's edge that move with it, and that it pulls along

    def __init__(self, eyes: tuple[int, ...], channels: int = 24, dilations: tuple[int, ...] = (1, 2, 4, 2, 1)):
        super().__init__()
        self.eyes = list(eyes)
        widths = (4 * (3 + MAPS), *(channels for _ in dilations))
        self.layers = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=d, dilation=d) for i, o, d in zip(widths, widths[1:], dilations, strict=False)
        )
        self.to_details = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.to_colour = nn.Conv2d(channels + 3 + MAPS, 4, 3, padding=1)  # a colour and how much of it
        nn.init.zeros_(self.to_colour.weight)
        if self.to_colour.bias is not None:
            self.to_colour.bias.data.copy_(torch.tensor([0.0, 0, 0, -3]))  # at first, eyes hardly change

    def plane(self, keypoints: Tensor) -> PatchPlane:
        """The patches on faces with keypoints (N, K, 3): 2N of them, both eyes of a face one after the other."""
        eyes = EyePoints.of(keypoints, self.eyes)
        reach = keypoints.new_tensor(self.REACH)[:, None] * eyes.width[..., None, None]
        return PatchPlane(eyes.middle.flatten(0, 1), (reach * eyes.axes).flatten(0, 1))

    def maps(self, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
        """Where lids and pupils are on the patches, and where to draw; source, driving: keypoints (N, K, 3).

        Returns:
            (2N, MAPS, h, w): heights below the upper and the lower lid, place along the eye, distance from the pupil,
            how open it is, how open it was, how far the pupil has moved, all in widths of the eye; and (2N, 1, h, w)
            in [0, 1].
        """
        before, now = EyePoints.of(source, self.eyes), EyePoints.of(driving, self.eyes)
        grid = pixel_grid(HEIGHT, WIDTH, like=driving) * driving.new_tensor(self.REACH)
        along, height = grid.unbind(-1)
        arch = (1 - (2 * along).square()).clamp_min(-0.5)  # a lid is a parabola between the corners
        below = [height - now.within(lid)[..., 1, None, None] * arch for lid in (now.upper, now.lower)]
        pupil = (grid - now.within(now.pupil)[..., None, None, :]).norm(dim=-1)
        moved_pupil = _looked(before, now).norm(dim=-1)
        shape = pupil.shape
        single = [value[..., None, None].expand(shape) for value in (now.openness, before.openness, moved_pupil)]
        maps = torch.stack([*below, along.expand(shape), pupil, *single], 2).flatten(0, 1)

        where = _around(along, height) * self._changed(before, now)[..., None, None]
        return maps.clamp(-2, 2), where.flatten(0, 1)[:, None]

    def changed(self, source: Tensor, driving: Tensor) -> Tensor:
        """(N, 2) in [0, 1] how much of either eye's drawing shows; source, driving: keypoints (N, K, 3)."""
        return self._changed(EyePoints.of(source, self.eyes), EyePoints.of(driving, self.eyes))

    def _changed(self, before: EyePoints, now: EyePoints) -> Tensor:
        moved_lids = (now.openness - before.openness).abs()
        not_turned = (_looked(before, now) - self._turned(before, now)).norm(dim=-1)
        return self._part(torch.maximum(moved_lids, not_turned))

    def _part(self, change: Tensor) -> Tensor:
        """How much of what is drawn shows, for changes in widths of the eye."""
        return ((change - self.UNCHANGED) / (self.CHANGED - self.UNCHANGED)).clamp(0, 1)

    def unfold(self, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor]:
        """Where lids that close come from: their edges with the lashes move as they are, the skin between edge and
        brow, or cheek, stretches, and the eye between them stays and is covered.

        Args:
            source, driving: keypoints (N, K, 3).

        Returns:
            (2N, h, w, 2) places in the portraits, and (2N, h, w, 1) in [0, 1] how far they hold: 0 away from the eyes,
            and where lids do not close.
        """
        before, now = EyePoints.of(source, self.eyes), EyePoints.of(driving, self.eyes)
        grid = pixel_grid(HEIGHT, WIDTH, like=driving) * driving.new_tensor(self.REACH)
        along, height = grid.unbind(-1)
        arch = (1 - (2 * along).square()).clamp_min(0)
        fetched = height
        lower, upper = ((before.lower, now.lower), -1), ((before.upper, now.upper), 1)
        for (old, new), side in (lower, upper):  # where they meet, the upper one is in front
            was, is_now = before.within(old)[..., 1, None, None], now.within(new)[..., 1, None, None]
            beyond = side * (is_now * arch - height)  # the edge of the lid
            ends = side * (is_now * arch - was) + self.FOLD
            share = 1 - ((beyond - self.LASHES) / (ends - self.LASHES).clamp_min(0.05)).clamp(0, 1)
            lid = height - (is_now - was) * arch * share
            fetched = torch.where(beyond > -self.LID_EDGE, lid, fetched)
        places = torch.stack([along.expand_as(fetched), fetched], -1)
        places = before.outward(places) * before.width[..., None, None, None]
        places = places + before.middle[:, :, None, None]
        closing = self._part(before.openness - now.openness)
        weight = _around(along, height) * closing[..., None, None]
        return places.flatten(0, 1), weight.flatten(0, 1)[..., None]

    def _turned(self, before: EyePoints, now: EyePoints) -> Tensor:
        """How far irises move along each eye's axes, (N, 2, 2) in widths of the eye."""
        farthest = now.outer.new_tensor(self.FARTHEST)
        turned = (now.looking - before.looking).clamp(-farthest, farthest)
        return turned[:, None] * turned.new_tensor([[1, -1], [-1, -1]])

    def turn(self, source: Tensor, driving: Tensor) -> Tensor:
        """What turning the eyes adds to where the moved portrait is fetched from: the iris moves as a whole, the white
        around it gives way, and lids stay.

        The networks that move the portrait hardly move an iris. Both turn alike, by what their pupils say together.

        Args:
            source, driving: keypoints (N, K, 3).

        Returns:
            (2N, 2, h, w) on the patches, x and y of the portrait, 0 away from the eyes.
        """
        before, now = EyePoints.of(source, self.eyes), EyePoints.of(driving, self.eyes)
        turned = self._turned(before, now)
        place = pixel_grid(HEIGHT, WIDTH, like=driving) * driving.new_tensor(self.REACH)
        along, height = place.unbind(-1)
        arch = (1 - (2 * along).square()).clamp_min(0)
        slope = torch.where(arch > 0, -8 * along, 0)
        upper, lower = now.within(now.upper), now.within(now.lower)
        distance = (place - now.inward(now.gaze)[:, :, None, None]).norm(dim=-1)
        # an iris goes under the lid ahead of it; behind it the picture must not fold, nor beside it
        reach = self.WHITE + 2 * turned.norm(dim=-1)[..., None, None]
        weight = smoothstep((1 - (distance - self.IRIS) / reach).clamp(0, 1))
        for lid, side in ((upper, 1), (lower, -1)):
            lid_height = lid[..., 1, None, None]
            inside = side * (height - lid_height * arch)
            down = (side * turned[..., 1, None, None]).clamp_min(0)
            along_lid = (-side * lid_height * slope * turned[..., 0, None, None]).clamp_min(0)
            edge = self.LID_EDGE + 1.6 * (down + along_lid)
            weight = weight * smoothstep((inside / edge).clamp(0, 1))
        shift = -weight[..., None] * turned[:, :, None, None]
        return (now.outward(shift) * now.width[:, :, None, None, None]).flatten(0, 1).movedim(-1, 1)

    def forward(self, picture: Tensor, maps: Tensor) -> Tensor:
        """The moved portrait on the patches (2N, 3, h, w), with `maps` for it -> the eyes drawn, (2N, 3, h, w)."""
        parts = for_convolutions(torch.cat([picture, maps], 1).to(self.to_colour.weight.dtype))
        x = F.pixel_unshuffle(parts, 2)
        for layer in self.layers:
            x = F.leaky_relu(self._run(layer, x), 0.2)
        x = F.pixel_shuffle(F.leaky_relu(self.to_details(x), 0.2), 2)
        colour, amount = torch.sigmoid(self.to_colour(torch.cat([x, parts], 1)).float()).split([3, 1], 1)
        return in_tones_of(picture, picture + amount * (colour - picture), torch.ones_like(amount))
