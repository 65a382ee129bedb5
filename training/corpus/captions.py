"""Sentences that ask for a facial expression, and the expression that they ask for.

A wish is up to three parts, each an emotion or a facial action with a strength: "slightly smiling" and "raised
eyebrows". A grammar with a fixed vocabulary says it in many ways; `wish_of` reads a wish off a frame whose ARKit
weights are known. So any frame has captions, and any caption has an expression. Phrasings of split "test" are used
nowhere else, although their words are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from eat_hf.constants import EMOTIONS
from training.corpus.emotions import form_weights
from training.corpus.heads import ARKIT_INDEX, ARKIT_NAMES

__all__ = ["ACTIONS", "Wish", "say_wish", "sample_wish", "wish_of"]

WEAK, PLAIN, STRONG = 0.4, 0.75, 1.0
STRENGTHS = (WEAK, PLAIN, STRONG)


@dataclass(frozen=True)
class Action:
    """Something that a face does.

    Attributes:
        units: ARKit weights at full strength; a name without side means both sides.
        doing: ways to say it, such as "smiling"; having: such as "smile", after "with" and a size.
    """

    units: dict[str, float]
    doing: tuple[str, ...]
    having: tuple[str, ...]


ACTIONS: dict[str, Action] = {
    "smile": Action({"mouthSmile": 1.0, "cheekSquint": 0.5, "eyeSquint": 0.2}, ("smiling",), ("smile",)),
    "mouth_corners_down": Action(
        {"mouthFrown": 1.0, "mouthShrugLower": 0.35},
        ("pulling the corners of the mouth down", "frowning with the mouth"),
        ("lowered corners of the mouth", "downturned mouth"),
    ),
    "brows_raised": Action(
        {"browInnerUp": 0.95, "browOuterUp": 1.0},
        ("raising the eyebrows", "lifting both brows"),
        ("raised eyebrows", "lifted brows"),
    ),
    "inner_brows_raised": Action(
        {"browInnerUp": 1.0}, ("raising the inner eyebrows",), ("raised inner eyebrows", "worried eyebrows")
    ),
    "brows_lowered": Action(
        {"browDown": 1.0, "eyeSquint": 0.2},
        ("lowering the eyebrows", "knitting the brows"),
        ("lowered eyebrows", "knitted brows"),
    ),
    "eyes_wide": Action({"eyeWide": 1.0}, ("opening the eyes wide", "staring"), ("wide eyes", "wide open eyes")),
    "eyes_narrowed": Action(
        {"eyeSquint": 1.0, "cheekSquint": 0.4}, ("squinting", "narrowing the eyes"), ("narrowed eyes", "squinted eyes")
    ),
    "eyes_closed": Action({"eyeBlink": 1.0}, ("closing the eyes",), ("closed eyes", "shut eyes")),
    "nose_wrinkled": Action(
        {"noseSneer": 1.0, "mouthUpperUp": 0.3, "cheekSquint": 0.35},
        ("wrinkling the nose", "sneering with the nose"),
        ("wrinkled nose",),
    ),
    "upper_lip_raised": Action(
        {"mouthUpperUp": 1.0, "noseSneer": 0.25},
        ("raising the upper lip", "baring the teeth"),
        ("raised upper lip", "bared teeth"),
    ),
    "lips_pressed": Action(
        {"mouthPress": 1.0, "mouthRollLower": 0.3, "mouthRollUpper": 0.2},
        ("pressing the lips together",),
        ("pressed lips", "tight lips"),
    ),
    "lips_stretched": Action(
        {"mouthStretch": 1.0}, ("stretching the lips", "pulling the lips sideways"), ("stretched lips",)
    ),
    "lips_pursed": Action({"mouthPucker": 0.9}, ("pursing the lips",), ("pursed lips", "puckered lips")),
    "mouth_open": Action({"jawOpen": 0.45}, ("opening the mouth", "dropping the jaw"), ("open mouth", "dropped jaw")),
    "pouting": Action(
        {"mouthShrugLower": 1.0, "mouthPucker": 0.35, "browInnerUp": 0.3}, ("pouting",), ("pouting mouth",)
    ),
    "cheeks_puffed": Action({"cheekPuff": 0.9}, ("puffing the cheeks",), ("puffed cheeks",)),
    "crying": Action(
        {
            "browInnerUp": 1.0,
            "browDown": 0.35,
            "mouthFrown": 0.85,
            "mouthStretch": 0.55,
            "mouthLowerDown": 0.35,
            "mouthShrugLower": 0.3,
            "eyeSquint": 0.85,
            "cheekSquint": 0.7,
            "eyeBlink": 0.35,
            "jawOpen": 0.12,
        },
        ("crying", "weeping", "sobbing"),
        ("tears", "crying face"),
    ),
}
NEVER_TOGETHER = (
    {"brows_raised", "inner_brows_raised", "brows_lowered", "crying"},
    {"eyes_wide", "eyes_narrowed", "eyes_closed", "crying"},
    {"smile", "mouth_corners_down", "lips_pressed", "lips_stretched", "lips_pursed", "pouting", "cheeks_puffed",
     "crying"},
    {"lips_pressed", "mouth_open", "lips_pursed", "cheeks_puffed", "pouting"},
    {"lips_pressed", "upper_lip_raised", "nose_wrinkled", "lips_pursed", "cheeks_puffed", "pouting"},
)  # fmt: skip

FEELING: dict[str, tuple[str, ...]] = {
    "angry": ("angry", "furious", "mad", "enraged"),
    "contempt": ("contemptuous", "scornful", "disdainful"),
    "disgusted": ("disgusted", "revolted", "repelled"),
    "fear": ("afraid", "fearful", "scared", "frightened", "terrified"),
    "happy": ("happy", "joyful", "cheerful", "delighted", "glad"),
    "neutral": ("neutral", "calm", "relaxed"),
    "sad": ("sad", "sorrowful", "unhappy", "miserable"),
    "surprised": ("surprised", "astonished", "amazed"),
}
NOUNS: dict[str, tuple[str, ...]] = {
    "angry": ("anger", "rage"),
    "contempt": ("contempt", "scorn"),
    "disgusted": ("disgust", "revulsion"),
    "fear": ("fear", "terror"),
    "happy": ("happiness", "joy"),
    "neutral": ("no emotion", "calm"),
    "sad": ("sadness", "grief"),
    "surprised": ("surprise", "amazement"),
}
ADVERBS = {WEAK: ("slightly", "a little", "a bit"), PLAIN: ("",), STRONG: ("very", "strongly", "really")}
HARD = {WEAK: ("slightly", "a little"), PLAIN: ("",), STRONG: ("strongly", "hard", "a lot")}  # after what is done
SIZES = {WEAK: ("little", "slight", "faint"), PLAIN: ("",), STRONG: ("big", "strong", "broad")}

WHO = ("She", "He", "The woman", "The man", "The person", "Someone")
FRAMES_DOING = {  # {} is "slightly smiling"
    "train": ("{who} is talking while {}.", "{who} is {}.", "a person who is {}", "a face {}", "{}", "talking and {}"),
    "test": ("{who} talks, {}.", "a talking person {}", "{who} is {} while talking."),
}
FRAMES_HAVING = {  # {} is "a slight smile"
    "train": ("a face with {}", "{who} is talking with {}.", "a person with {}", "{}", "{who} has {}."),
    "test": ("{who} talks with {}.", "a talking face with {}"),
}
FRAMES_FEELING = {  # {} is "very happy"
    "train": ("{who} is talking and looks {}.", "{who} is {}.", "a {} face", "a {} person", "{}", "{who} looks {}."),
    "test": ("{who} talks and is {}.", "the face of a {} person", "{who} is talking while {}."),
}
FRAMES_NOUN = {
    "train": ("an expression of {}", "{who} is talking with {}.", "a face full of {}"),
    "test": ("{who} talks full of {}.", "a person with an expression of {}"),
}
JOINTS = (" and ", ", ", " with ")


@dataclass(frozen=True)
class Wish:
    """What is asked for.

    Attributes:
        parts: (an emotion or a name of `ACTIONS`, strength up to 1), the most important first.
        arkit: (52,) the expression, in [0, 1].
    """

    parts: tuple[tuple[str, float], ...]
    arkit: np.ndarray


def units_of(name: str, strength: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """ARKit weights (52,) of a part; of an emotion a mixture of its forms, even without `rng`."""
    if name in EMOTIONS:
        forms = form_weights(name)
        shares = rng.dirichlet(np.full(len(forms), 1.5)) if rng is not None else np.full(len(forms), 1 / len(forms))
        return strength * shares @ forms
    weights = np.zeros(len(ARKIT_NAMES))
    for unit, value in ACTIONS[name].units.items():
        for full in (unit,) if unit in ARKIT_INDEX else (unit + "Left", unit + "Right"):
            weights[ARKIT_INDEX[full]] = strength * value
    return weights


def make_wish(parts: tuple[tuple[str, float], ...], rng: np.random.Generator | None = None) -> Wish:
    """Where two parts move the same unit, the stronger counts."""
    return Wish(parts, np.clip(np.max([units_of(*part, rng) for part in parts], 0), 0, 1))


def sample_wish(rng: np.random.Generator) -> Wish:
    """An emotion, with or without an action, or one to three actions that go together."""
    parts: list[tuple[str, float]] = []
    if rng.random() < 0.45:
        emotion = str(rng.choice(EMOTIONS))
        parts.append((emotion, PLAIN if emotion == "neutral" else float(rng.choice(STRENGTHS))))
        count = int(rng.random() < 0.25)
    else:
        count = int(rng.choice((1, 2, 3), p=(0.55, 0.33, 0.12)))
    for name in rng.permutation(list(ACTIONS)):
        fits = not any(name in group and other in group for group in NEVER_TOGETHER for other, _ in parts)
        if count and fits:
            parts.append((str(name), float(rng.choice(STRENGTHS))))
            count -= 1
    return make_wish(tuple(parts), rng)


def wish_of(arkit: np.ndarray, emotion: str | None = None, level: int = 0) -> Wish:
    """The wish that a frame fulfils: its emotion, if it is known, and the actions that show most clearly.

    arkit (52,); level 1 to 3.
    """
    parts: list[tuple[str, float]] = []
    rest = arkit.astype(float).copy()
    if emotion is not None:
        strength = STRENGTHS[max(level, 1) - 1] if emotion != "neutral" else PLAIN
        parts.append((emotion, strength))
        rest -= 1.3 * units_of(emotion, strength) if emotion != "neutral" else 0
    shown = {}
    for name in ACTIONS:
        units = units_of(name, 1.0)
        main = units >= 0.6 * units.max()
        shown[name] = float((rest[main] / units[main]).min())
    for name in sorted(shown, key=shown.__getitem__, reverse=True):
        taken = any(name in group and other in group for group in NEVER_TOGETHER for other, _ in parts)
        if shown[name] > 0.3 and not taken and len(parts) < 3 and name != "mouth_open" * (emotion is not None):
            parts.append((name, min(STRENGTHS, key=lambda s, value=shown[name]: abs(s - value))))
    return Wish(tuple(parts) or (("neutral", PLAIN),), arkit)


def say_wish(wish: Wish, rng: np.random.Generator, split: str = "train") -> str:
    """A sentence that asks for it."""

    def pick(words) -> str:
        return str(words[int(rng.integers(len(words)))])

    (first, strength), *others = wish.parts
    kinds = ["feeling", "noun"] if first in EMOTIONS else ["doing", "having"]
    kind = pick(kinds)
    said = _say_part(first, strength, kind, pick)
    for number, (name, amount) in enumerate(others):
        joint = ", " if number + 1 < len(others) else pick(JOINTS)
        said += joint + _say_part(name, amount, "doing" if kind == "doing" and joint != " with " else "having", pick)
    frames = {"feeling": FRAMES_FEELING, "noun": FRAMES_NOUN, "doing": FRAMES_DOING, "having": FRAMES_HAVING}[kind]
    if others:  # "a {} face" holds one word
        frames = {key: tuple(f for f in value if not f.startswith("a {}")) for key, value in frames.items()}
    sentence = pick(frames[split]).format(said, who=pick(WHO))
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", sentence)


def _say_part(name: str, strength: float, kind: str, pick) -> str:
    if kind == "feeling":
        return f"{pick(ADVERBS[strength])} {pick(FEELING[name])}".strip()
    if kind == "noun":
        return f"{pick(SIZES[strength])} {pick(NOUNS[name])}".strip()
    if kind == "doing":
        words = pick(ACTIONS[name].doing)
        adverb = pick(HARD[strength])
        return f"{words} {adverb}".strip() if pick((0, 1)) == "1" else f"{adverb} {words}".strip()
    return f"{pick(SIZES[strength])} {pick(ACTIONS[name].having)}".strip()
