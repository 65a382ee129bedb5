"""Where the teeth are, which a portrait with closed lips does not show: a guide for what is drawn between the lips.

The upper teeth are fixed to the skull and the lower ones to the jaw, so both follow from the keypoints. Here they do by
one linear map, fitted in closed form on heads whose teeth are known, in the head's own frame: its rigid keypoints say
where the skull is, the others how long the face is and how far the jaw has come down.
"""

import torch
from torch import Tensor, nn

from .affine_motion import fit_affine


class MouthGuide(nn.Module):
    """Keypoints -> points of the dental arches -> maps of teeth and gums.

    Of the upper and of the lower arch there are points where two teeth meet, from the picture's left to its right, at
    the gum and at the edge: P = 2 * (teeth + 1) * 2.

    Args:
        keypoints: K.
        rigid_keypoints: indices of the keypoints that expressions hardly move.
        teeth: of an arch that may be seen between the lips.
    """

    NOISE = 0.012  # of estimated keypoints; what a fit on exact ones must allow for
    NARROWEST = 2e-3  # a tooth seen from its side, in units of [-1, 1]
    channels = 7
    TEETH, GUMS, DARK = (0.86, 0.82, 0.75), (0.62, 0.36, 0.35), (0.15, 0.06, 0.06)  # in the light of a bright portrait
    mean_keypoints: nn.Parameter
    mean_points: nn.Parameter
    map: nn.Parameter

    def __init__(self, keypoints: int, rigid_keypoints: tuple[int, ...], teeth: int = 10):
        super().__init__()
        self.rigid, self.teeth = list(rigid_keypoints), teeth
        points = 4 * (teeth + 1)
        for name, shape in (
            ("mean_keypoints", (keypoints, 3)),
            ("mean_points", (points, 3)),
            ("map", (keypoints * 3, points * 3)),
        ):
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))

    @torch.no_grad()
    def fit(self, keypoints: Tensor, points: Tensor) -> None:
        """Least squares on heads whose teeth are known: keypoints (N, K, 3) and points (N, P, 3), in picture units."""
        keypoints, points = keypoints.double(), points.double()
        mean = keypoints.mean(0)
        for _ in range(3):  # a head's frame depends on the mean head, and the mean head on everybody's frame
            matrix, offset = fit_affine(keypoints[:, self.rigid], mean[self.rigid].expand(len(keypoints), -1, -1))
            own, teeth = keypoints @ matrix + offset, points @ matrix + offset
            mean = own.mean(0)
        x, y = (own - mean).flatten(1), (teeth - teeth.mean(0)).flatten(1)
        noise = len(x) * self.NOISE**2 * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        self.mean_keypoints.copy_(mean)
        self.mean_points.copy_(teeth.mean(0))
        self.map.copy_(torch.linalg.solve(x.mT @ x + noise, x.mT @ y))

    def points(self, keypoints: Tensor) -> Tensor:
        """Keypoints (N, K, 3) as seen in the picture -> points of the arches (N, P, 3), as seen there, too."""
        mean = self.mean_keypoints.float()
        matrix, offset = fit_affine(keypoints[:, self.rigid], mean[self.rigid].expand(keypoints.shape[0], -1, -1))
        residual = (keypoints @ matrix + offset - mean).flatten(1)
        own = self.mean_points.float() + (residual @ self.map.float()).unflatten(1, (-1, 3))
        return torch.linalg.solve(matrix.mT, (own - offset).mT).mT

    def draw(self, points: Tensor, places: Tensor) -> Tensor:
        """Maps of teeth and gums.

        Args:
            points: (N, P, 3), see `points`.
            places: (N, h, w, 2), x and y of the pixels.

        Returns:
            (N, 7, h, w): for either arch 1 on its teeth and 0 beside them; -1 in the middle of a tooth and 1 where two
            meet; 0 at the gum and 1 at the edge, going on to -1 and 2. And from -1 to 1 along the upper arch.
        """
        x, y = places.unbind(-1)
        soft = (places[:, 0, 1] - places[:, 0, 0]).norm(dim=-1)[:, None, None]  # a pixel
        arches = points.unflatten(1, (2, self.teeth + 1, 2))
        maps = []
        for arch in arches.unbind(1):
            steps = torch.arange(self.teeth + 1, device=x.device) * self.NARROWEST
            meets = (arch[..., 0].mean(2) - steps).cummax(1).values + steps
            gums, edges = arch[..., 1].unbind(2)
            widths = meets.diff(dim=1)
            along = ((x[..., None] - meets[:, None, None, :-1]) / widths[:, None, None]).clamp(0, 1)  # (N, h, w, teeth)

            def line(ends: Tensor, along: Tensor = along) -> Tensor:
                return ends[:, :1, None] + (along @ ends.diff(dim=1)[:, None, :, None]).squeeze(-1)

            number, gum, edge = along.sum(-1), line(gums), line(edges)
            height = edge - gum
            height = torch.where(height.abs() < 1e-3, 1e-3 * (1 - 2 * (height < 0).to(height.dtype)), height)
            down = (y - gum) / height
            within = torch.minimum(x - meets[:, :1, None], meets[:, -1:, None] - x)
            within = torch.minimum(within, torch.minimum(down, 1 - down) * height.abs())
            maps += [(within / soft + 0.5).clamp(0, 1), torch.cos(2 * torch.pi * number), down.clamp(-1, 2)]
            if len(maps) == 3:
                position = 2 * number / self.teeth - 1
        return torch.stack([*maps, position], 1)

    def sketch(self, maps: Tensor, light: Tensor) -> Tensor:
        """A first picture of the mouth from the maps of `draw`, which a network need only correct: teeth with lines
        between them, gums and the dark behind, darker the further back.

        Args:
            maps: (N, 7, h, w), see `draw`.
            light: (N, 1, 1, 1), how bright the portrait is around the mouth, in [0, 1].

        Returns:
            (N, 3, h, w) in [0, 1].
        """
        teeth_colour, gum_colour, dark = (
            maps.new_tensor(colour)[:, None, None] for colour in (self.TEETH, self.GUMS, self.DARK)
        )
        depth = maps[:, 6:].square()
        picture = dark.expand(maps.shape[0], -1, *maps.shape[2:])
        for arch in (maps[:, 3:6], maps[:, :3]):  # the upper teeth bite over the lower ones
            teeth, meeting, down = arch.split(1, 1)
            gap = (0.5 + 0.5 * meeting) ** 6
            # rounded to the sides and at the gum
            shade = (1 - 0.5 * gap) * (1 - 0.12 * (0.5 + 0.5 * meeting)) * (0.82 + 0.18 * down.clamp(0, 0.5) / 0.5)
            gums = ((down + 0.6) / 0.3).clamp(0, 1) * (down < 0.3)
            picture = torch.lerp(picture, gum_colour * (1 - 0.5 * depth), gums * (1 - depth))
            picture = torch.lerp(picture, teeth_colour * shade * (1 - 0.5 * depth), teeth)
        return (picture * (2 * light).clamp(0.1, 1.1)).clamp(0, 1)
