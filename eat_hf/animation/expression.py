"""Speech and emotion become the expression of every frame (paper sections 3.1 and 3.2)."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Speech:
    """Attributes:
    semantic: (F, 16, 29), what is said around every frame; or F - 1 of them, where the last frame begins after the last
        whole window, and is said like the one before.
    mel: (F, 80), how it sounds.
    energy: (F,), root mean square of every frame's samples.
    """

    semantic: Tensor
    mel: Tensor
    energy: Tensor


@dataclass
class SpeechWindows:
    """Attributes:
    speech: (F, W, width), tokens of what is said around every frame.
    mel: (F, W, 80), how it sounds.
    head_pose: (F, width), the token of every frame's pose.
    """

    speech: Tensor
    mel: Tensor
    head_pose: Tensor
