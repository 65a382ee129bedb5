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
    ):
        super().__init__()
        for name, value, known in (
            ("expression_frame", expression_frame, ("camera", "head")),
            ("driving_centring", driving_centring, ("clip", "none")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, not {value!r}.")
        if blink_deformation is not None and len(blink_deformation) != 3 * keypoints:
            raise ValueError(
                f"blink_deformation must be {3 * keypoints} numbers, three a keypoint, not {len(blink_deformation)}."
            )
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
