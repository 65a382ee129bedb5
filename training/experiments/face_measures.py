"""What a face does, read off its 68 landmarks (iBUG 300-W), and whether its lips follow a voice."""

import numpy as np

MEASURES = {
    "mouth_opening": "gap between the inner lips",
    "jaw": "how far the chin is below the eyes",
    "mouth_width": "distance of the mouth's corners",
    "corner_height": "height of the mouth's corners, mean of both",
    "left_corner": "height of the corner on the picture's left",
    "right_corner": "height of the corner on the picture's right",
    "smile": "how far the corners are up and out: their height and half the width, added",
    "upper_lip": "height of the upper lip's upper edge",
    "brow": "height of both brows",
    "inner_brow": "height of the brows' inner ends",
}
"""Heights are above the line through the eyes, so those of the mouth are negative. All are in distances between the
eyes: 0.0167 is a pixel where the eyes are 60 apart, as in aligned portraits."""


def in_face_frame(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks without the head's place, roll and size.

    Args:
        landmarks: (T, 68, 2) pixels; NaN where no face was found.

    Returns:
        (T, 68, 2): x along the line through the eyes to the picture's right, y upwards, from the point between the
        eyes and in units of their distance. An eye is the middle of its corners, which lids do not move.
    """
    points = landmarks[..., 0] - 1j * landmarks[..., 1]
    eyes = [points[:, corners].mean(1, keepdims=True) for corners in ([36, 39], [42, 45])]
    with np.errstate(invalid="ignore"):  # NaN stays NaN
        turned = (points - (eyes[0] + eyes[1]) / 2) / (eyes[1] - eyes[0])
    return np.stack([turned.real, turned.imag], -1)


def measure_face(landmarks: np.ndarray) -> dict[str, np.ndarray]:
    """`MEASURES` of every frame: (T, 68, 2) pixels -> (T,) each, NaN where no face was found."""
    x, y = np.moveaxis(in_face_frame(landmarks), -1, 0)
    width, corners = x[:, 54] - x[:, 48], y[:, [48, 54]].mean(1)
    return {
        "mouth_opening": y[:, 61:64].mean(1) - y[:, 65:68].mean(1),
        "jaw": -y[:, 7:10].mean(1),
        "mouth_width": width,
        "corner_height": corners,
        "left_corner": y[:, 48],
        "right_corner": y[:, 54],
        "smile": corners + width / 2,
        "upper_lip": y[:, 50:53].mean(1),
        "brow": y[:, 17:27].mean(1),
        "inner_brow": y[:, 21:23].mean(1),
    }


def change_between(emotional: dict[str, np.ndarray], neutral: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean change of every measure from a neutral clip to an emotional one of the same sound and head motion.

    Frame n is compared with frame n, as far as both last, so that neither words nor poses differ. `one_corner` is
    added: how far one corner of the mouth rises, and rises more than the other (the smaller of the two numbers). NaN
    where no frame has a face in both clips.
    """
    change = {}
    for name, values in emotional.items():
        length = min(len(values), len(neutral[name]))
        difference = values[:length] - neutral[name][:length]
        known = difference[~np.isnan(difference)]
        change[name] = float(known.mean()) if len(known) else float("nan")
    lower, higher = sorted((change["left_corner"], change["right_corner"]))
    change["one_corner"] = min(higher, higher - lower)
    return change


def follow_loudness(opening: np.ndarray, loud: np.ndarray, max_lag: int = 5) -> tuple[float, int]:
    """How well the mouth's opening follows the loudness of the voice.

    Args:
        opening, loud: (T,) each; frames in which `opening` is NaN are left out.
        max_lag: frames by which one may be shifted against the other.

    Returns:
        The highest correlation, and its lag: by how many frames the lips are late, below 0 if early. NaN and 0 where
        none can be computed, because lips or voice do not change at all.
    """
    best, best_lag = float("nan"), 0
    for lag in sorted(range(-max_lag, max_lag + 1), key=abs):
        lips, voice = opening[max(lag, 0) :], loud[max(-lag, 0) :]
        length = min(len(lips), len(voice))
        known = ~np.isnan(lips[:length])
        lips, voice = lips[:length][known], voice[:length][known]
        if len(lips) > 2 and np.ptp(lips) > 1e-9 and np.ptp(voice) > 1e-9:
            correlation = float(np.corrcoef(lips, voice)[0, 1])
            if not correlation <= best:  # also where there is no best one yet
                best, best_lag = correlation, lag
    return best, best_lag
