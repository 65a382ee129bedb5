"""The people of a corpus, of one family of heads or both."""

import numpy as np

from .facekit_heads import FaceKit, sample_facekit
from .heads import Identity
from .makehuman_heads import sample_makehuman


def sample_identity(rng: np.random.Generator, facekit: FaceKit | None = None) -> Identity:
    """A new person; the same generator state gives the same person.

    facekit: the second family, to which half of the people belong; all are of the first one without it.
    """
    if facekit is not None and rng.random() < 0.5:
        return sample_facekit(rng, facekit)
    return sample_makehuman(rng)
