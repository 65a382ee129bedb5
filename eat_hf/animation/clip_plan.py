"""All of a clip but its pictures: driving keypoints and guidance of every frame (Eq. 1)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .networks import Adaptation
from .portrait import Portrait


@dataclass
class Performance:
    """All that a clip's frames are rendered from.

    Attributes:
        portrait: who.
        drive: K_d (1, n, K, 3) of frames of some numbers (n,); it computes their expression.
        frames: numbers (F,) of the frames that are wanted.
        guidance: of the renderer: (1, width), (1, all frames, width), or None without emotional adaptation.
        adaptations: whose emotions show.
    """

    portrait: Portrait
    drive: Callable[[Tensor], Tensor]
    frames: Tensor
    guidance: Tensor | None
    adaptations: tuple[Adaptation, ...]

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def driving(self) -> Tensor:
        """K_d (1, F, K, 3) of all of them."""
        return self.drive(self.frames)

    def only(self, frames: Sequence[int]) -> "Performance":
        """The same for some of the frames."""
        return replace(self, frames=self.frames[list(frames)])

    def pieces(self, first: int, size: int) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Driving keypoints (1, n, K, 3) and guidance of the first frames, then of `size` frames after the other,
        computed as they are asked for."""
        for part in filter(len, (self.frames[:first], *self.frames[first:].split(size))):
            changes = self.guidance is not None and self.guidance.dim() == 3
            yield self.drive(part), self.guidance[:, part] if changes else self.guidance  # type: ignore[index]
