"""The linear basis of expressions: principal components that A2ET predicts (paper section 3.1)."""

from collections.abc import Sequence
from typing import Literal

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from ..keypoints import ExpressionFrame, hull_volume


class ExpressionBasis(ModelMixin, ConfigMixin):
    """expression = directions @ coefficients + mean, per face in units of its hull volume V ** p.

    Buffers: `directions` (3K, coefficients), `mean` (3K,). Nothing here is trained by gradient descent. The other
    settings say what the numbers of an expression mean, so they stay with the basis that made them.

    Args:
        keypoints: K.
        coefficients: how many principal components.
        expression_frame: "camera", as published: K = R K_c + t + E; "head": K = R (K_c + E) + t.
        hull_volume_exponent: p in E' = (PCA + EDN) * V ** p; 1 as published.
        driving_centring: "clip", as published, shifts the whole clip's keypoints so that their mean equals the
            portrait's; "none" leaves them.
        blink_deformation: 3K numbers, what shutting the eyes adds to E' of a face of hull volume 1; None, as
            published: the model does not blink.
        gaze_deformation: two lists of 3K numbers, what turning the eyes by a degree to the picture's right, and by one
            up, adds to E' of a face of hull volume 1; None, as published: the model does not look about.
        lips: indices of the keypoints in the middle of the upper and of the lower inner lip, and lips_apart: how far
            apart their y is on a face at rest, in units of V ** p; parting_deformation: 3K numbers, what parting the
            lips by 1 adds to an expression. Together they shut the lips of canonical keypoints, see `rest_lips`; None,
            as published: canonical keypoints stay as they are found.
    """

    @register_to_config
    def __init__(
        self,
        keypoints: int = 15,
        coefficients: int = 32,
        expression_frame: ExpressionFrame = "camera",
        hull_volume_exponent: float = 1.0,
        driving_centring: Literal["clip", "none"] = "clip",
        blink_deformation: Sequence[float] | None = None,
        gaze_deformation: Sequence[Sequence[float]] | None = None,
        lips: tuple[int, int] | None = None,
        lips_apart: float = 0.0,
        parting_deformation: Sequence[float] | None = None,
    ):
        super().__init__()
        for name, value, known in (
            ("expression_frame", expression_frame, ("camera", "head")),
            ("driving_centring", driving_centring, ("clip", "none")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, not {value!r}.")
        deformations = {"blink_deformation": blink_deformation, "parting_deformation": parting_deformation}
        for name, numbers in deformations.items():
            if numbers is not None and len(numbers) != 3 * keypoints:
                raise ValueError(f"{name} must be {3 * keypoints} numbers, three a keypoint, not {len(numbers)}.")
        if gaze_deformation is not None:
            sizes = [len(numbers) if isinstance(numbers, Sequence) else 0 for numbers in gaze_deformation]
            if sizes != [3 * keypoints] * 2:
                raise ValueError(f"gaze_deformation must be twice {3 * keypoints} numbers, three a keypoint.")
        if (lips is None) != (parting_deformation is None):
            raise ValueError("lips and parting_deformation belong together.")
        self.register_buffer("directions", torch.eye(3 * keypoints, coefficients))
        self.register_buffer("mean", torch.zeros(3 * keypoints))

    def forward(self, coefficients: Tensor) -> Tensor:
        """(..., coefficients) -> (..., 3K)."""
        return coefficients @ self.directions.T + self.mean

    def project(self, expression: Tensor) -> Tensor:
        """The coefficients whose expression is nearest: (..., 3K) -> (..., coefficients)."""
        return (expression - self.mean) @ torch.linalg.pinv(self.directions).T

    def scale(self, canonical: Tensor) -> Tensor:
        """V ** p of faces with canonical keypoints (B, K, 3): (B,)."""
        return hull_volume(canonical) ** self.config.hull_volume_exponent

    def rest_lips(self, canonical: Tensor, scale: Tensor | None = None) -> Tensor:
        """Canonical keypoints (B, K, 3) of faces whose lips are as far apart as those of a face at rest.

        What a motion estimator takes for an open mouth is off the canonical keypoints, right or wrong. If it is wrong,
        as it may be of pressed, smiling or half-hidden lips, lips would be shut where the voice opens them.

        Args:
            scale: theirs (B,), if it is known, see `scale`.
        """
        if self.config.lips is None:
            return canonical
        upper, lower = self.config.lips
        scale = self.scale(canonical) if scale is None else scale
        lacking = self.config.lips_apart * scale - (canonical[:, lower, 1] - canonical[:, upper, 1])
        parting = canonical.new_tensor(self.config.parting_deformation).view(-1, 3)
        return canonical + lacking[:, None, None] * parting
