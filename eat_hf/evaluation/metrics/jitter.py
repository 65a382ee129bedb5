"""How restless a video is: flicker of the background, trembling of the landmarks that no expression moves."""

import numpy as np

BAND = 8 / 256  # width of the border that counts as background, of the picture's shorter side
RIGID = [*range(27, 36), 36, 39, 42, 45]  # nose and corners of the eyes


def background_jitter(frames: np.ndarray) -> float:
    """Mean absolute change of the picture's border from one frame to the next, of 255.

    Args:
        frames: (T, H, W, 3) uint8. A band along all four edges counts, 8 pixels wide in a picture of 256; the head
            seldom reaches it.

    Returns:
        NaN for fewer than two frames.
    """
    if len(frames) < 2:
        return float("nan")
    band = max(1, round(BAND * min(frames.shape[1:3])))
    border = np.ones(frames.shape[1:3], bool)
    border[band:-band, band:-band] = False
    values = frames[:, border].astype(np.int16)
    return float(np.abs(np.diff(values, axis=0)).mean())


def landmark_jitter(landmarks: np.ndarray, size: float) -> float:
    """Mean length of the second difference over time of the rigid landmarks, in pixels of a 256 frame.

    A face that rests or glides gives 0, real head motion little, landmarks that tremble much.

    Args:
        landmarks: (T, 68, 2) iBUG, pixels; frames of NaN, where no face was found, and their neighbours are left out.
        size: side of the pictures they lie in, pixels.

    Returns:
        NaN where no three consecutive frames have a face.
    """
    change = np.linalg.norm(np.diff(landmarks[:, RIGID], 2, axis=0), axis=-1).mean(-1)
    change = change[~np.isnan(change)]
    return float(change.mean() * 256 / size) if len(change) else float("nan")
