"""What a clip is asked for with: the arguments that every way to make one shares, written once."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from ..errors import UserError
from ..inputs.emotions import Emotion, EmotionTrack, Intensity
from ..inputs.faces import SIZE, Face
from ..inputs.head_motion import HeadMotion, check_amounts
from ..inputs.numbers import BATCHES, FACES, SEEDS, TRACKS, FrameSize, check_size, check_whole_number
from ..media.recordings import Recording
from .voice import VoiceEmotionInput

ImageInput = str | os.PathLike | Image.Image | np.ndarray
AudioInput = str | os.PathLike | tuple[np.ndarray, int] | Recording
HeadMotionInput = str | os.PathLike | HeadMotion
OutputType = Literal["np", "pil", "pt"]
DEFAULT_SIZE = 512  # of models that can


@dataclass(frozen=True, eq=False)
class ClipOptions:
    """How a portrait shall talk.

    Attributes:
        emotion: a name; weights {"happy": 0.7, "surprised": 0.3}; or a timeline [(0.0, "neutral"), (1.5, "happy")] in
            seconds, cross-faded; or "voice", what a model hears in the voice. None is the talking head before
            emotional adaptation (stage 1 of the paper): no prompts, no EDN, no EAM.
        intensity: 0 neutral, 1 as trained, up to 1.5 exaggerated; a number or a timeline [(seconds, value)]; or
            "voice", how lively the voice is, against its own calm.
        head_motion: "natural", "still", the path of a driving video or of a saved `HeadMotion` (.safetensors), or a
            `HeadMotion`.
        generator: a `torch.Generator`, or its seed, 0 to 2**64 - 1; the same seed gives the same frames.
        batch_size: frames computed at a time, 1 to 1024: memory and speed, no difference in the frames.
        face: which face to animate, counted from 0 in order of prominence, or one that `detect_faces` found; None is
            the most prominent, with a warning if there are several.
        paste_back: put the animated face back into the whole picture (at most 1920 pixels long).
        align: find the face and bring it to where the network expects it; False takes a square picture (and a driving
            video of 256 x 256) as it is, for data that was cropped before.
        emotion_text: the emotion in words, such as "slightly smiling with raised eyebrows", or several phrasings of one
            wish; in place of `emotion`, for models with `words`.
        size: side of the frames in pixels: 256, 512, 1024, or "portrait", what the portrait's own face has, from 256 to
            1024. Default: 512 where the model can, else 256, as published; with `paste_back` "portrait".
        audio_track: which of a sound file's tracks, counted from 0; None is the first that is not silent.
        head_amount, blinks, gaze: 0 to 2, how much the head moves, how often (in natural motion) or how far lids shut,
            and how far eyes move; 1 is as usual, or as in the video or `HeadMotion`.
        voice_emotion: of emotion="voice", a model of transformers for audio classification: folder, Hub id, or a
            `VoiceEmotionModel`. Default: the folder or id in $EAT_HF_VOICE_EMOTION.
        voice_labels: emotions by its labels, such as {"LABEL_0": "happy"}, where their names do not say enough.

    Raises:
        UserError: a value that can be judged without the model makes no sense.
    """

    emotion: Emotion | None = "neutral"
    intensity: Intensity = 1.0
    head_motion: HeadMotionInput = "natural"
    generator: torch.Generator | int | None = None
    batch_size: int = 8
    face: int | Face | None = None
    paste_back: bool = False
    align: bool = True
    emotion_text: str | Sequence[str] | None = None
    size: FrameSize | None = None
    audio_track: int | None = None
    head_amount: float = 1.0
    blinks: float = 1.0
    gaze: float = 1.0
    voice_emotion: VoiceEmotionInput | None = None
    voice_labels: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        check_whole_number(self.batch_size, "batch_size", BATCHES)
        if self.face is not None and not isinstance(self.face, Face):
            check_whole_number(self.face, "face", FACES)
        if self.audio_track is not None:
            check_whole_number(self.audio_track, "audio_track", TRACKS)
        self.check_emotion()
        if not isinstance(self.head_motion, str | os.PathLike | HeadMotion):
            kind = type(self.head_motion).__name__
            raise UserError(f"head_motion must be 'natural', 'still', a path or a HeadMotion, not {kind}.")
        if self.emotion_text is not None and self.emotion not in ("neutral", None):
            raise UserError("Give either emotion or emotion_text, not both.")
        check_generator(self.generator)
        check_amounts(*self.amounts)
        if self.size is not None:
            check_size(self.size)

    @property
    def amounts(self) -> tuple[float, float, float]:
        """Of head motion, blinks and gaze."""
        return self.head_amount, self.blinks, self.gaze

    @classmethod
    def of(cls, options: "ClipOptions | None", *arguments: Any, **named: Any) -> "ClipOptions":
        """Options that are there, with named ones changed; or new ones."""
        if options is None:
            return cls(*arguments, **named)
        if arguments:
            raise TypeError("Give ready options, or single ones, by position; not both.")
        return replace(options, **named)

    def check_emotion(self, emotions: Sequence[str] | None = None) -> None:
        """Look at emotion and intensity before the voice is heard.

        Args:
            emotions: that a model knows; None while nobody knows them.

        Raises:
            UserError: as of `track`.
        """
        if self.emotion is not None:
            EmotionTrack.check(self.emotion, self.intensity, emotions)

    def track(self, emotions: Sequence[str]) -> EmotionTrack | None:
        """What is felt over time, in emotions that a model knows; None before emotional adaptation. The voice, where
        it is followed, was heard before: see `EATPipeline.emotion_from_voice`.

        Raises:
            UserError: an emotion is unknown, or a number makes no sense.
        """
        return None if self.emotion is None else EmotionTrack.create(self.emotion, self.intensity, emotions)

    def frame_size(self, largest: int) -> FrameSize:
        """The side of the frames, of a model that makes them up to `largest`.

        Raises:
            UserError: the model cannot make them so large.
        """
        if largest == SIZE:
            if self.size in (None, largest):
                return largest
            raise UserError(f"This model makes frames of {largest} x {largest} pixels; leave out size, or use another.")
        if self.size is None:
            return "portrait" if self.paste_back else DEFAULT_SIZE
        return self.size

    def seeded(self) -> torch.Generator | None:
        """The generator, made of the seed if that was given."""
        return seeded(self.generator)


def check_generator(generator: Any) -> None:
    """Raise a UserError for what is neither a generator nor its seed."""
    if isinstance(generator, list | tuple):
        raise UserError("A clip takes one generator, or one seed, not a list; call the pipeline once for each.")
    if generator is None or isinstance(generator, torch.Generator):
        return
    if isinstance(generator, bool) or not isinstance(generator, Integral):
        raise UserError(f"generator must be a torch.Generator or a whole number, not {type(generator).__name__}.")
    check_whole_number(generator, "The seed", SEEDS)


def seeded(generator: torch.Generator | int | None) -> torch.Generator | None:
    """A generator as it is, or one of a seed."""
    check_generator(generator)
    if generator is None or isinstance(generator, torch.Generator):
        return generator
    return torch.Generator().manual_seed(int(generator))


def check_image(image: Any) -> None:
    """Raise a UserError for several pictures at once."""
    if isinstance(image, list | tuple) or (isinstance(image, np.ndarray) and image.ndim == 4):
        raise UserError("image is one portrait, not several; call the pipeline once for each.")
