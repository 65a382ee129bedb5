"""The head pose of every frame."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class HeadPose:
    """Attributes:
    yaw, pitch, roll: (F,) degrees.
    translation: (F, 3).
    """

    yaw: Tensor
    pitch: Tensor
    roll: Tensor
    translation: Tensor

    @property
    def angles(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.yaw, self.pitch, self.roll

    def of(self, index: Tensor) -> "HeadPose":
        """That of some frames."""
        return HeadPose(**{name: values[index] for name, values in vars(self).items()})
