"""What a clip is asked for with."""

import os
from typing import Literal

import numpy as np
from PIL import Image

from ..inputs.head_motion import HeadMotion
from ..media.recordings import Recording

ImageInput = str | os.PathLike | Image.Image | np.ndarray


AudioInput = str | os.PathLike | tuple[np.ndarray, int] | Recording


HeadMotionInput = str | os.PathLike | HeadMotion


OutputType = Literal["np", "pil", "pt"]
