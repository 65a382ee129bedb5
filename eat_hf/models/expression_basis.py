"""The linear basis of expressions: principal components that A2ET predicts (paper section 3.1)."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor


class ExpressionBasis(ModelMixin, ConfigMixin):
    """expression = directions @ coefficients + mean, per face in units of its hull volume V.

    Buffers: `directions` (3K, coefficients), `mean` (3K,). Nothing here is trained by gradient descent.
    """

    @register_to_config
    def __init__(self, keypoints: int = 15, coefficients: int = 32):
        super().__init__()
        self.register_buffer("directions", torch.eye(3 * keypoints, coefficients))
        self.register_buffer("mean", torch.zeros(3 * keypoints))

    def forward(self, coefficients: Tensor) -> Tensor:
        """(..., coefficients) -> (..., 3K)."""
        return coefficients @ self.directions.T + self.mean

    def project(self, expression: Tensor) -> Tensor:
        """The coefficients whose expression is nearest: (..., 3K) -> (..., coefficients)."""
        return (expression - self.mean) @ torch.linalg.pinv(self.directions).T
