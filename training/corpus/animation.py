"""One animated clip: mouth, emotion, head motion, blinks and gaze, all at 25 frames a second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from eat_hf.constants import FPS
from eat_hf.easing import smoothstep
from training.corpus.emotions import EmotionStyle, combine, emotion_motion, emotion_pose, sway, wish_motion
from training.corpus.heads import ARKIT_INDEX, ARKIT_NAMES
from training.corpus.speech import Speech
from training.corpus.visemes import mouth_motion

__all__ = ["ClipAnimation", "animate"]


@dataclass
class ClipAnimation:
    """arkit (T, 52) in [0, 1]; yaw, pitch, roll (T,) degrees; translation (T, 3) in picture units, z 0; tongue (T,),
    how far it is raised, 0 to 1; float32."""

    arkit: np.ndarray
    yaw: np.ndarray
    pitch: np.ndarray
    roll: np.ndarray
    translation: np.ndarray
    tongue: np.ndarray


def _blinks(frames: int, rng: np.random.Generator) -> np.ndarray:
    """Lid closure (T,) in [0, 1]: blinks of 0.2-0.3 s every 2-5 s, each fully shut on one frame."""
    t = np.arange(frames)
    lids = np.zeros(frames)
    at = rng.uniform(-1.0, 4.0)
    while at < frames / FPS:
        shut = round(at * FPS)  # on a frame, so that every blink is seen closed
        close, open_ = rng.uniform(0.07, 0.1) * FPS, rng.uniform(0.12, 0.2) * FPS
        x = np.where(t <= shut, 1 - (shut - t) / close, 1 - (t - shut) / open_)
        x = np.clip(x, 0, 1)
        lids = np.maximum(lids, smoothstep(x))
        at += 0.35 if rng.random() < 0.07 else rng.uniform(2.0, 5.0)
    return lids


def _gaze(frames: int, yaw: np.ndarray, pitch: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Eye direction (T,), (T,) in about [-0.5, 0.5], right and up in the picture: fixations joined by saccades."""
    right, up = np.zeros(frames), np.zeros(frames)
    start = 0
    while start < frames:
        length = int(rng.uniform(0.6, 2.5) * FPS)
        away = rng.random() < 0.15
        right[start : start + length] = rng.normal(0, 0.28 if away else 0.05)
        up[start : start + length] = rng.normal(0, 0.18 if away else 0.04)
        start += length
    # Eyes hold the viewer while the head turns (vestibulo-ocular reflex); an eye turns fully at about 35 degrees.
    right = gaussian_filter1d(right, 0.6) - 0.7 * yaw / 35
    up = gaussian_filter1d(up, 0.6) - 0.7 * pitch / 35
    return np.clip(right, -0.7, 0.7), np.clip(up, -0.5, 0.5)


def _head(frames: int, energy: np.ndarray, base: np.ndarray, rng: np.random.Generator):
    """Yaw, pitch, roll (T,) degrees and translation (T, 3): posture, slow sway, and beats with the voice."""
    liveliness = rng.uniform(0.5, 1.3)
    voice = gaussian_filter1d(energy.astype(float), 2.0) if frames > 1 else energy.astype(float)
    voice = voice - voice.mean()
    angles = []
    for axis, (spread, slow, quick, beat) in enumerate(((3.4, 3.4, 0.7, 2.5), (1.8, 1.9, 0.5, 3.5),
                                                        (1.2, 1.3, 0.3, 1.2))):  # fmt: skip
        track = base[axis] + rng.normal(0, spread)
        track = track + liveliness * (slow * sway(frames, rng.uniform(0.7, 1.5), rng) + quick * sway(frames, 0.4, rng))
        angles.append(track + liveliness * beat * rng.normal(0, 1) * voice)
    yaw, pitch, roll = angles
    shift = np.zeros((frames, 3))
    for axis, spread in ((0, 0.018), (1, 0.014)):
        shift[:, axis] = rng.normal(0, spread) + 0.5 * spread * liveliness * sway(frames, 1.4, rng)
    # A turning head rolls on its neck: the face moves a little towards where it looks.
    shift[:, 0] += 0.0012 * yaw
    shift[:, 1] -= 0.0012 * pitch
    limit = lambda x, most: most * np.tanh(x / most)  # noqa: E731
    return limit(yaw, 15.0), limit(pitch, 9.0), limit(roll, 7.0), np.clip(shift, -0.06, 0.06)


def animate(speech: Speech, emotion: str, level: int, style: EmotionStyle, rng: np.random.Generator,
            wish: np.ndarray | None = None) -> ClipAnimation:  # fmt: skip
    """Animate a face that says ``speech`` with an emotion ("neutral", "happy", ...) at level 0-3.

    style: the person's, from ``sample_style``.
    wish: ARKit weights (52,) of an expression to show in its place. T = speech.frames. Same arguments and generator
    state, same result.
    """
    frames = speech.frames
    energy = speech.energy[:frames]
    # Angry and happy voices articulate more widely than sad ones.
    effort = 1 + 0.15 * speech.prosody.effort
    mouth = mouth_motion(speech.phonemes, speech.times, energy, strength=style.articulation * effort)
    if wish is None:
        felt = emotion_motion(emotion, level, style, energy, rng)
    else:
        felt = wish_motion(wish, style, energy, rng)
    arkit = combine(mouth, felt)
    yaw, pitch, roll, translation = _head(frames, energy, emotion_pose(emotion, level, style, rng), rng)

    right, up = _gaze(frames, yaw, pitch, rng)
    i = ARKIT_INDEX
    # The person's left eye is on the right of the picture: looking to the picture's right turns it out.
    arkit[:, i["eyeLookOutLeft"]] = arkit[:, i["eyeLookInRight"]] = np.clip(right, 0, 1)
    arkit[:, i["eyeLookInLeft"]] = arkit[:, i["eyeLookOutRight"]] = np.clip(-right, 0, 1)
    for side in ("Left", "Right"):
        down = arkit[:, i["eyeLookDown" + side]] + np.clip(-up, 0, 1)
        arkit[:, i["eyeLookUp" + side]] = np.clip(up, 0, 1) * (down <= np.clip(up, 0, 1))
        arkit[:, i["eyeLookDown" + side]] = np.where(down > np.clip(up, 0, 1), down - np.clip(up, 0, 1), 0)
    lids = _blinks(frames, rng)
    for side in ("Left", "Right"):
        blink = arkit[:, i["eyeBlink" + side]]
        arkit[:, i["eyeBlink" + side]] = blink + (1 - blink) * lids
        for name in ("eyeWide", "eyeSquint"):  # a shut eye is neither wide nor squinting
            arkit[:, i[name + side]] *= 1 - lids
    assert arkit.shape == (frames, len(ARKIT_NAMES))
    as_float = lambda x: np.ascontiguousarray(x, dtype=np.float32)  # noqa: E731
    return ClipAnimation(as_float(np.clip(arkit, 0, 1)), as_float(yaw), as_float(pitch), as_float(roll),
                         as_float(translation), as_float(mouth.tongue))  # fmt: skip
