"""Facial emotion for the synthetic corpus: the eight emotions of MEAD at three levels, in ARKit units over time.

Each emotion is a set of facial action units (Ekman and Friesen's EMFACS), written in the ARKit unit that moves the same
muscle, in two or three forms that people show (a closed and an open smile, pressed and bared anger, ...). A person
leans towards some forms and moves some muscles more than others, always in the same way: ``EmotionStyle``, drawn from
the identity's seed. A clip adds its own small deviations. Over time the emotion rises, sways, answers to stressed
words and may fade; brows, lids and mouth do so with lags of their own. It is never one frozen mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from eat_hf.constants import EMOTIONS, FPS
from eat_hf.easing import smoothstep
from training.corpus.heads import ARKIT_INDEX, ARKIT_NAMES
from training.corpus.visemes import MouthMotion, close_lips

__all__ = ["EMOTIONS", "HELD_OUT", "LEVELS", "EmotionStyle", "combine", "emotion_motion", "emotion_pose",
           "form_weights", "sample_style", "sway", "wish_motion"]  # fmt: skip

HELD_OUT: tuple[str, ...] = ("wince", "pout")
"""Expressions that no model learns with the eight: they are for adapters."""
LEVELS: tuple[float, ...] = (0.0, 0.45, 0.78, 1.1)
"""Share of the expression at level 0 (neutral), 1, 2, 3; the strongest units saturate at level 3."""

# Weights near level 3; a name without side means both sides. Action units in comments.
_FORMS: dict[str, tuple[dict[str, float], ...]] = {
    "neutral": ({},),
    "angry": (  # 4 + 5 + 7 + 23/24, lips pressed; or 4 + 7 + 9 + 10 + 25, teeth bared
        {
            "browDown": 1.0,
            "eyeWide": 0.35,
            "eyeSquint": 0.55,
            "noseSneer": 0.4,
            "mouthPress": 0.65,
            "mouthFrown": 0.45,
            "mouthRollLower": 0.2,
            "mouthShrugLower": 0.35,
            "jawForward": 0.35,
        },
        {
            "browDown": 1.0,
            "eyeSquint": 0.65,
            "eyeWide": 0.3,
            "noseSneer": 0.75,
            "mouthUpperUp": 0.5,
            "mouthLowerDown": 0.45,
            "mouthFrown": 0.4,
            "mouthStretch": 0.25,
            "jawForward": 0.3,
            "jawOpen": 0.08,
        },
    ),
    "contempt": (  # unilateral 12 + 14, a raised chin (see emotion_pose); "Left" is flipped for some people
        {
            "mouthSmileLeft": 0.85,
            "mouthDimpleLeft": 0.8,
            "mouthDimpleRight": 0.15,
            "mouthPressRight": 0.35,
            "cheekSquintLeft": 0.4,
            "eyeSquint": 0.4,
            "browOuterUpLeft": 0.55,
            "browDownRight": 0.4,
            "mouthLeft": 0.35,
        },
        {
            "mouthSmileLeft": 0.7,
            "mouthUpperUpLeft": 0.4,
            "noseSneerLeft": 0.35,
            "mouthDimpleLeft": 0.6,
            "eyeSquint": 0.35,
            "eyeBlink": 0.15,
            "browOuterUpLeft": 0.7,
            "browDownRight": 0.45,
            "mouthLeft": 0.3,
            "mouthPressRight": 0.3,
        },
    ),
    "disgusted": (  # 9 + 10 + 15/17, with 4 and 7
        {
            "noseSneer": 1.0,
            "mouthUpperUp": 0.7,
            "browDown": 0.55,
            "eyeSquint": 0.6,
            "cheekSquint": 0.6,
            "mouthFrown": 0.45,
            "mouthShrugLower": 0.3,
        },
        {
            "noseSneer": 0.95,
            "mouthUpperUp": 0.45,
            "mouthShrugUpper": 0.35,
            "mouthShrugLower": 0.55,
            "mouthFrown": 0.65,
            "browDown": 0.5,
            "eyeSquint": 0.55,
            "cheekSquint": 0.45,
            "browInnerUp": 0.1,
        },
        {
            "noseSneer": 0.9,
            "mouthUpperUp": 0.6,
            "mouthLowerDown": 0.4,
            "mouthStretch": 0.3,
            "browDown": 0.6,
            "eyeSquint": 0.65,
            "cheekSquint": 0.5,
            "jawOpen": 0.12,
            "tongueOut": 0.1,
        },
    ),
    "fear": (  # 1 + 2 + 4 + 5 + 20 + 25/26
        {
            "browInnerUp": 0.95,
            "browOuterUp": 0.35,
            "browDown": 0.3,
            "eyeWide": 0.95,
            "mouthStretch": 0.9,
            "mouthFrown": 0.25,
            "mouthLowerDown": 0.3,
            "jawOpen": 0.12,
        },
        {
            "browInnerUp": 1.0,
            "browOuterUp": 0.25,
            "browDown": 0.25,
            "eyeWide": 0.85,
            "mouthStretch": 0.75,
            "mouthRollLower": 0.15,
            "mouthPress": 0.2,
            "mouthFrown": 0.3,
        },
    ),
    "happy": (  # 6 + 12, closed; or 6 + 12 + 25, teeth shown
        {"mouthSmile": 0.85, "cheekSquint": 0.75, "eyeSquint": 0.4, "mouthDimple": 0.3, "browOuterUp": 0.1},
        {
            "mouthSmile": 1.0,
            "cheekSquint": 0.85,
            "eyeSquint": 0.45,
            "mouthUpperUp": 0.4,
            "mouthLowerDown": 0.2,
            "jawOpen": 0.08,
            "browInnerUp": 0.1,
            "browOuterUp": 0.15,
        },
    ),
    "sad": (  # 1 + 4 + 15 + 17, lids low
        {
            "browInnerUp": 1.0,
            "browDown": 0.2,
            "mouthFrown": 1.0,
            "mouthShrugLower": 0.55,
            "eyeBlink": 0.25,
            "eyeSquint": 0.2,
            "eyeLookDown": 0.2,
        },
        {
            "browInnerUp": 0.9,
            "browDown": 0.1,
            "mouthFrown": 0.95,
            "mouthPress": 0.3,
            "mouthRollLower": 0.25,
            "mouthLowerDown": 0.1,
            "eyeBlink": 0.35,
            "eyeLookDown": 0.3,
        },
        {
            "browInnerUp": 1.0,
            "browDown": 0.3,
            "mouthFrown": 0.9,
            "mouthStretch": 0.3,
            "cheekSquint": 0.35,
            "eyeSquint": 0.5,
            "mouthShrugLower": 0.35,
        },
    ),
    "surprised": (  # 1 + 2 + 5 + 26
        {"browInnerUp": 1.0, "browOuterUp": 1.0, "eyeWide": 0.9, "jawOpen": 0.24, "mouthFunnel": 0.15},
        {
            "browInnerUp": 0.9,
            "browOuterUp": 0.95,
            "eyeWide": 0.8,
            "jawOpen": 0.12,
            "mouthUpperUp": 0.15,
            "mouthSmile": 0.1,
        },
    ),
}

_HELD_OUT_FORMS: dict[str, dict[str, float]] = {
    # 4 + 6 + 7 + 9 + 20, eyes nearly shut: pain
    "wince": {
        "browDown": 0.85,
        "browInnerUp": 0.15,
        "eyeBlink": 0.6,
        "eyeSquint": 0.9,
        "cheekSquint": 0.9,
        "noseSneer": 0.55,
        "mouthStretch": 0.85,
        "mouthUpperUp": 0.3,
        "mouthLowerDown": 0.3,
    },
    # 1 + 17 + 18, lips pushed out
    "pout": {
        "browInnerUp": 0.8,
        "browDown": 0.25,
        "mouthPucker": 0.75,
        "mouthShrugLower": 0.8,
        "mouthShrugUpper": 0.25,
        "mouthFrown": 0.3,
        "jawForward": 0.2,
    },
}

# Posture: yaw, pitch (positive looks up), roll in degrees at level 3.
_POSTURE = {
    "neutral": (0.0, 0.0, 0.0), "angry": (0.0, -3.0, 0.0), "contempt": (4.0, 4.5, 2.5), "disgusted": (3.5, 1.5, -2.0),
    "fear": (0.0, 2.5, 0.0), "happy": (0.0, 1.0, 2.0), "sad": (0.0, -5.0, 2.5), "surprised": (0.0, 2.5, 0.0),
    "wince": (3.0, -2.0, 3.0), "pout": (0.0, -2.5, 2.0),
}  # fmt: skip


def _vector(form: dict[str, float]) -> np.ndarray:
    """ARKit weights (52,) of a form; a unit named without its side is put on both."""
    weights = np.zeros(len(ARKIT_NAMES))
    for name, value in form.items():
        for full in (name,) if name in ARKIT_INDEX else (name + "Left", name + "Right"):
            weights[ARKIT_INDEX[full]] = value
    return weights


def form_weights(emotion: str) -> np.ndarray:
    """ARKit weights (forms, 52) of the forms in which people show an emotion, at full strength."""
    return np.stack([_vector(form) for form in _FORMS[emotion]])


# Regions that move with a lag of their own.
_UPPER = np.array([n.startswith("brow") for n in ARKIT_NAMES])
_LIDS = np.array([n.startswith(("eye", "cheekSquint")) for n in ARKIT_NAMES])
_LOWER = ~(_UPPER | _LIDS)
_MIRROR = np.array([ARKIT_INDEX[n.replace("Left", "\0").replace("Right", "Left").replace("\0", "Right")]
                    for n in ARKIT_NAMES])  # fmt: skip


@dataclass(frozen=True)
class EmotionStyle:
    """How one person shows emotion. gains (52,): factor of every unit, near 1; leanings: for every emotion the
    preference among its forms, summing to 1; mirrored: contempt on the right side; asymmetry (52,): factor of left
    against right; resting (52,): the person's neutral face in small weights; articulation: see ``mouth_motion``."""

    gains: np.ndarray
    leanings: dict[str, np.ndarray]
    mirrored: bool
    asymmetry: np.ndarray
    resting: np.ndarray
    articulation: float


def sample_style(rng: np.random.Generator) -> EmotionStyle:
    """Draw a person's style; draw it from a generator seeded by the identity."""
    gains = np.exp(rng.normal(0, 0.13, len(ARKIT_NAMES)))
    gains = np.sqrt(gains * gains[_MIRROR])  # both sides alike, asymmetry is separate
    tilt = rng.normal(0, 0.06)
    asymmetry = np.array([1 + tilt if n.endswith("Left") else 1 - tilt if n.endswith("Right") else 1.0
                          for n in ARKIT_NAMES])  # fmt: skip
    resting = np.zeros(len(ARKIT_NAMES))
    for name in ("mouthSmile", "mouthFrown", "browDown", "eyeSquint", "mouthPress"):
        resting += _vector({name: max(rng.normal(0, 0.05), 0)})
    resting[ARKIT_INDEX["browInnerUp"]] = max(rng.normal(0, 0.06), 0)
    leanings = {emotion: rng.dirichlet(np.full(len(forms), 0.8)) for emotion, forms in _FORMS.items()}
    return EmotionStyle(gains, leanings, bool(rng.random() < 0.35), asymmetry, resting, float(rng.uniform(0.82, 1.2)))


def sway(frames: int, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise (frames,) of about unit deviation, varying over ``seconds``."""
    sigma, margin = seconds * FPS / 2, int(seconds * FPS * 2) + 4
    noise = gaussian_filter1d(rng.standard_normal(frames + 2 * margin), sigma)[margin : margin + frames]
    return noise * np.sqrt(2 * np.sqrt(np.pi) * sigma)


def _envelope(frames: int, energy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Strength of an emotion over a clip, about 0.3-1.15: onset, sway, emphasis on loud words, decay."""
    t = np.arange(frames) / FPS
    strength = np.ones(frames)
    if rng.random() < 0.35:  # the emotion comes up in the clip; in the others it is already there
        start, rise = rng.uniform(0, 0.3), rng.uniform(0.25, 0.8)
        x = np.clip((t - start) / rise, 0, 1)
        strength *= 0.3 + 0.7 * smoothstep(x)
    if rng.random() < 0.3:
        length, fall = frames / FPS, rng.uniform(0.4, 1.0)
        x = np.clip((length - t) / fall, 0, 1)
        strength *= 0.55 + 0.45 * smoothstep(x)
    emphasis = gaussian_filter1d(energy.astype(float), 0.15 * FPS) if frames > 1 else energy.astype(float)
    strength *= 0.93 + rng.uniform(0.0, 0.22) * emphasis + 0.07 * sway(frames, 0.8, rng)
    return np.clip(strength, 0.1, 1.15)


def emotion_motion(emotion: str, level: int, style: EmotionStyle, energy: np.ndarray,
                   rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """ARKit weights (T, 52) of an emotion alone, without speech.

    emotion: one of ``EMOTIONS`` or ``HELD_OUT``; level: 0 for neutral, else 1-3; energy (T,): loudness in [0, 1],
    which emphasises.
    Raises ValueError for another emotion or a level that does not fit it.
    """
    if emotion not in EMOTIONS + HELD_OUT or level not in ((0,) if emotion == "neutral" else (1, 2, 3)):
        raise ValueError(f"no emotion {emotion!r} at level {level}: neutral has level 0, {EMOTIONS + HELD_OUT} have "
                         "1, 2, 3")  # fmt: skip
    frames = len(energy)
    if emotion in HELD_OUT:
        forms, mixture = _vector(_HELD_OUT_FORMS[emotion])[None], np.ones(1)
    else:
        forms = form_weights(emotion)
        mixture = rng.dirichlet(0.15 + 4 * style.leanings[emotion])
    # Two forms are partly blended, partly chosen, and may change places slowly within the clip.
    drift = np.stack([sway(frames, 1.5, rng) for _ in forms], axis=1) if len(forms) > 1 else np.zeros((frames, 1))
    shares = mixture * np.exp(0.35 * drift)
    shares /= shares.sum(axis=1, keepdims=True)
    target = shares @ forms
    target *= style.gains * style.asymmetry * np.exp(rng.normal(0, 0.07, len(ARKIT_NAMES)))
    if style.mirrored:
        target = target[:, _MIRROR]
    motion = _over_time(target, LEVELS[level], energy, rng)
    if emotion == "neutral":  # brows still move a little with the voice
        flash = np.clip(gaussian_filter1d(energy.astype(float), 4) - 0.6, 0, None) * rng.uniform(0, 0.6)
        motion[:, ARKIT_INDEX["browInnerUp"]] += flash
    rest = style.resting * (1.0 if emotion == "neutral" else 0.4)
    return np.clip(motion + rest, 0, 1).astype(np.float32)


def wish_motion(arkit: np.ndarray, style: EmotionStyle, energy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """ARKit weights (T, 52) of an expression that was asked for, without speech; energy as for ``emotion_motion``.

    arkit (52,): what it is; people show it in their way.
    """
    target = arkit * np.sqrt(style.gains) * np.exp(rng.normal(0, 0.05, len(ARKIT_NAMES)))
    motion = _over_time(np.tile(target, (len(energy), 1)), 1.0, energy, rng)
    return np.clip(motion + 0.3 * style.resting, 0, 1).astype(np.float32)


def _over_time(target: np.ndarray, amount: float, energy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``amount`` of a target (T, 52) as it comes and goes in a clip, every region with a lag of its own."""
    frames = len(energy)
    strength = _envelope(frames, energy, rng)
    motion = np.zeros((frames, len(ARKIT_NAMES)))
    for region in (_UPPER, _LIDS, _LOWER):
        lag = int(rng.integers(-2, 5))
        shifted = strength[np.clip(np.arange(frames) - lag, 0, frames - 1)]
        shifted = shifted * (1 + 0.05 * sway(frames, 0.6, rng))
        motion[:, region] = (shifted * amount)[:, None] * target[:, region]
    return motion


def emotion_pose(emotion: str, level: int, style: EmotionStyle, rng: np.random.Generator) -> np.ndarray:
    """Yaw, pitch, roll (3,) in degrees that an emotion adds to the head's posture in this clip."""
    posture = np.array(_POSTURE[emotion]) * LEVELS[level] * rng.uniform(0.4, 1.2)
    side = -1 if style.mirrored else 1
    return posture * np.array([side, 1, side * rng.choice((-1, 1)) if emotion in ("happy", "sad") else side])


_I = ARKIT_INDEX
_CORNERS = [_I[f"mouth{n}{s}"] for n in ("Smile", "Frown", "Stretch", "Dimple") for s in ("Left", "Right")]
_HIDING = [_I[n] for n in ("mouthPressLeft", "mouthPressRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
                           "mouthShrugUpper")]  # fmt: skip


def combine(mouth: MouthMotion, emotion: np.ndarray) -> np.ndarray:
    """Speech and emotion on one face: ARKit weights (T, 52) in [0, 1].

    Upper face: the emotion's. Lower face: the sum, in which the emotion gives way to what the sound needs: corners
    are pulled less while lips are round, lips are not pressed or rolled while they must be open, and an emotional open
    jaw or lip yields completely in closures, which ``close_lips`` enforces at the end.
    """
    speech = mouth.arkit.astype(float)
    felt = emotion.astype(float).copy()
    rounding = np.clip(speech[:, _I["mouthPucker"]] + 0.7 * speech[:, _I["mouthFunnel"]], 0, 1)
    felt[:, _CORNERS] *= (1 - 0.45 * rounding)[:, None]
    # Wide lips against round lips: the stronger the smile, the less pucker is left, but it stays visible.
    opening = np.clip(speech[:, _I["jawOpen"]] / 0.25, 0, 1) * (1 - mouth.closure)
    felt[:, _HIDING] *= (1 - 0.85 * opening)[:, None]
    spare = mouth.activity * 0.75
    felt[:, _I["jawOpen"]] *= 1 - spare
    felt[:, _I["mouthFunnel"]] *= 1 - spare
    for name in ("mouthUpperUp", "mouthLowerDown"):
        for side in ("Left", "Right"):
            felt[:, _I[name + side]] *= 1 - 0.35 * mouth.activity
    total = speech + felt
    # The jaw is the larger of the two rather than their sum; so are rounding units.
    for name in ("jawOpen", "mouthFunnel", "mouthPucker"):
        i = _I[name]
        total[:, i] = np.maximum(speech[:, i], felt[:, i]) + 0.35 * np.minimum(speech[:, i], felt[:, i])
    total[:, _I["jawOpen"]] = np.minimum(total[:, _I["jawOpen"]], 0.78)
    return close_lips(np.clip(total, 0, 1).astype(np.float32), mouth.closure, mouth.contact)
