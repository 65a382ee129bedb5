"""What the page asks for, computed: videos, a few frames of one, and the eight emotions side by side.

One pipeline serves everybody. What belongs to a visitor, the adapters, is in a `Session` and comes with every request.
"""

import contextvars
import hashlib
import json
import os
import re
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..adapters.emotion_adapter import CONFIG, WEIGHTS, EmotionAdapter
from ..adapters.tuning import LearningOptions, LearningStep
from ..constants import VOICE_EMOTION_VARIABLE
from ..errors import InputWarning, RepositoryError, UserError, shown
from ..hub.cards import slug
from ..hub.client import fetch_small_files
from ..inputs.emotions import CROSS_FADE, EmotionTrack, Intensity, is_voice
from ..inputs.faces import SIZE, Face, choose_face, detect_faces
from ..inputs.numbers import FrameSize
from ..media.bounded import JSON_BYTES
from ..media.recordings import Recording
from ..media.videos import VideoWriter
from ..names import as_name, check_name
from ..pipeline.arguments import ClipOptions
from ..pipeline.live import LiveSession
from ..pipeline.pipeline_eat import EATPipeline
from ..serving.limits import Limits
from ..serving.turns import Pace
from ..shipped import shipped
from .live_desk import LiveDesk
from .waveform import keyframe_moments

try:  # of ZeroGPU Spaces, where it has to come before a model is loaded: without it there is no GPU to be seen
    import spaces
except ImportError:
    spaces = None

BATCH = 8  # frames at a time
TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,200}", re.ASCII)
LICENSE = re.compile(r"[a-z0-9.-]{1,50}", re.ASCII)
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)  # and no path of the server's
LONGEST_REPOSITORY = 200
PREVIEW_EVERY = 0.1  # seconds between frames that are shown while a video is made
GRID_COLUMNS = 4
PREVIEWED, PREVIEW_SECONDS = 3, 4.0  # frames of an emotion in words, of the beginning of the voice
LONGEST_OF_TEXT = 30  # letters of a sentence that name an emotion
# seconds of GPU that are asked for: at all, for each second of voice, and for each step of refinement
STARTING, PER_SECOND, PER_STEP = 15, 4, 0.5


@dataclass(frozen=True)
class Example:
    """Files, and an emotion, to begin with."""

    portrait: Path
    voice: Path
    emotion: str


def find_examples() -> tuple[Example, ...]:
    """Those that ship with the package."""
    voice = shipped("examples/speech.wav")
    known = (
        ("examples/astronaut.jpg", "happy"),
        ("examples/hopper.jpg", "surprised"),
        ("examples/young_man.jpg", "sad"),
    )
    found = ((shipped(portrait), emotion) for portrait, emotion in known)
    return tuple(Example(portrait, voice, emotion) for portrait, emotion in found if portrait and voice)


@dataclass(frozen=True)
class Session:
    """What one visitor has loaded. Never changed, only replaced.

    Attributes:
        adapters: by name.
        places: where they came from, a repository of the Hub or a folder's name.
    """

    adapters: Mapping[str, EmotionAdapter] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    __hash__ = object.__hash__


@dataclass(frozen=True)
class Request:
    """A clip that was asked for, checked.

    Attributes:
        image: the portrait.
        recording: the voice.
        options: how it shall talk; the generator is a seed.
        name: of the video's file, which the server chooses.
    """

    image: np.ndarray
    recording: Recording
    options: ClipOptions
    name: str = "eat.mp4"

    def changed(self, **options: Any) -> "Request":
        """The same with other options."""
        return replace(self, options=replace(self.options, **options))

    def with_face(self) -> "Request":
        """The same with its face found: once, not for every clip of it, and one warning."""
        if isinstance(self.options.face, Face):
            return self
        return self.changed(face=choose_face(detect_faces(self.image), self.options.face))


@dataclass(frozen=True)
class Made:
    """A step of the work. Attributes: frame, the newest; done and total, frames; video, when it is finished."""

    frame: np.ndarray | None
    done: int
    total: int
    video: Path | None = None


@dataclass(eq=False)
class Refinement:
    """Somebody's refinement of an emotion. Attributes: going, until it is False."""

    going: bool = True

    def stop(self) -> None:
        self.going = False


def on_gpu(duration: Callable[..., int]) -> Callable[[Callable], Callable]:
    """A decorator: on a ZeroGPU Space, a GPU for that many seconds; elsewhere nothing."""
    return (lambda function: function) if spaces is None else spaces.GPU(duration=duration)


class Studio:
    """Args:
    pipe: the pipeline, with what is loaded for everybody.
    limits: of what visitors may send.
    model: how code names the pipeline.
    examples: what visitors begin with.
    """

    def __init__(self, pipe: EATPipeline, limits: Limits, model: str, examples: Sequence[Example] = ()):
        pipe = pipe.with_adapters()
        pipe.progress_bar = Pace  # type: ignore[method-assign, assignment]
        self.pipe, self.limits, self.model, self.examples = pipe, limits, model, tuple(examples)
        self.live = LiveDesk(limits)

        # Closures, not methods: a GPU worker gets the arguments pickled, and the pipeline by being forked.
        @on_gpu(lambda adapters, request: STARTING + round(PER_SECOND * request.recording.seconds))
        def render(adapters, request: Request) -> Iterator[np.ndarray]:
            view = pipe.with_adapters(adapters)
            yield from view.stream(request.image, request.recording, options=request.options)

        @on_gpu(lambda adapters, request, frames: STARTING + round(request.recording.seconds))
        def render_some(adapters, request: Request, frames: Sequence[int]) -> list[np.ndarray]:
            view = pipe.with_adapters(adapters)
            options = request.options if request.options.paste_back else replace(request.options, size=SIZE)
            some = view.plan_clip(request.image, request.recording, options=options).only(frames)
            return [frame for chunk in view.render_clip(some, request.options.paste_back) for frame in chunk]

        @on_gpu(lambda request, names: STARTING + round(len(names) * PER_SECOND * request.recording.seconds))
        def render_grid(request: Request, names: Sequence[str]) -> Iterator[np.ndarray]:
            options = replace(request.options, paste_back=False, size=SIZE)
            clips = [pipe.stream(request.image, request.recording, options=options, emotion=name) for name in names]
            for chunks in zip(*clips, strict=True):
                yield _grid([_labelled(chunk, name) for chunk, name in zip(chunks, names, strict=True)])

        @on_gpu(lambda adapters, request, text, name, steps, running: STARTING + round(PER_STEP * steps))
        def learn(adapters, request: Request, text: Sequence[str], name: str, steps: int, running: Refinement):
            view = pipe.with_adapters(adapters)

            def run(watch: Callable[[LearningStep], bool]) -> EmotionAdapter:
                options = LearningOptions(steps=steps)
                given = text, request.image, request.recording, name
                return view.learn_emotion(*given, options=options, generator=request.options.generator, watch=watch)

            yield from _reached(run, running)

        @on_gpu(lambda adapters, recording: STARTING + round(recording.seconds))
        def feel(adapters, recording: Recording) -> list[tuple[float, dict[str, float]]]:
            return pipe.with_adapters(adapters).emotion_from_voice(recording)

        self._feel = feel
        self._render, self._render_some, self._render_grid, self._learn = render, render_some, render_grid, learn

    # Requests --------------------------------------------------------------------------------------------------------

    def emotions(self, session: Session) -> tuple[str, ...]:
        return self.pipe.with_adapters(session.adapters).emotions

    def track(self, session: Session, emotion: Any, intensity: Intensity = 1.0) -> EmotionTrack:
        """What is felt over time.

        Raises:
            UserError: an emotion is unknown, a number makes no sense, or there are too many keyframes.
        """
        self._check_keyframes(emotion)
        return EmotionTrack.create(emotion, intensity, self.emotions(session))

    def _check_keyframes(self, emotion: Any) -> None:
        if isinstance(emotion, list) and len(emotion) > self.limits.keyframes:
            raise UserError(
                f"This timeline has {len(emotion)} emotions; up to {self.limits.keyframes} are allowed here."
            )

    def request(
        self,
        session: Session,
        portrait: str | None,
        voice: str | None,
        emotion: Any,
        intensity: Intensity = 1.0,
        head_motion: str = "natural",
        driving_video: str | None = None,
        full_picture: bool = False,
        seed: int = 0,
        face: int | None = None,
        name: str = "eat.mp4",
        size: FrameSize | None = None,
        amounts: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ) -> Request:
        """Check what was given before anybody waits for it.

        Args:
            amounts: of head motion, blinks and gaze.

        Raises:
            UserError: about the first thing that is wrong.
        """
        image, recording = self.limits.read_portrait(portrait), self.limits.read_voice(voice)
        self._check_keyframes(emotion)
        EmotionTrack.check(emotion, intensity, self.emotions(session))
        if head_motion == "driving video":
            head_motion = self.limits.check_driving_video(driving_video)
        elif head_motion not in ("natural", "still"):
            raise UserError(f"Head motion is natural, still or driving video, not {shown(head_motion)}.")
        face = None if face is None else int(face)
        head_amount, blinks, gaze = map(float, amounts)
        options = ClipOptions(
            *(emotion, intensity, head_motion, int(seed or 0), BATCH, face, bool(full_picture)),
            size=size,
            head_amount=head_amount,
            blinks=blinks,
            gaze=gaze,
        )
        return Request(image, recording, options, name)

    def from_voice(
        self, session: Session, voice: str | None
    ) -> tuple[list[tuple[float, dict[str, float]]] | None, list[tuple[float, float]]]:
        """What a voice feels and how lively it is, over time; no emotions, with a warning, where no model hears them.

        Raises:
            UserError: about the voice, or the model that hears emotions.
        """
        recording = self.limits.read_voice(voice)
        emotion = None
        if os.environ.get(VOICE_EMOTION_VARIABLE):
            emotion = self._feel(session.adapters, recording)
        else:
            warnings.warn(
                "Only the intensity was heard: whoever runs this page has to name a model that hears emotions in "
                f"{VOICE_EMOTION_VARIABLE}.",
                InputWarning,
                2,
            )
        return emotion, self.pipe.intensity_from_voice(recording)

    def begin_live(self, session: Session, image: np.ndarray, options: ClipOptions) -> LiveSession:
        """A live session of a visitor.

        Raises:
            UserError: the portrait shows no face, or the model has to know the whole voice.
        """
        return self.pipe.with_adapters(session.adapters).live(image, options=options)

    # Results ---------------------------------------------------------------------------------------------------------

    def make_video(self, session: Session, request: Request) -> Iterator[Made]:
        """Frames as they are made, then the video, whose file is gone when the iterator goes on."""
        yield from self._film(self._render(session.adapters, request), request)

    def make_grid(self, request: Request) -> Iterator[Made]:
        """The same voice in all emotions of the model, side by side."""
        request = request.with_face()
        names = tuple(self.pipe.emotion_mapper.config.emotions)
        yield from self._film(self._render_grid(request, names), request)

    def keyframes(self, session: Session, request: Request) -> list[tuple[np.ndarray, str]]:
        """A frame for each keyframe of a timeline, with its caption."""
        moments = keyframe_moments(request.recording, self.track(session, request.options.emotion), CROSS_FADE)
        if not moments:
            raise UserError("All emotions of this timeline begin after the end of the voice.")
        frames = self._render_some(session.adapters, request, [frame for frame, _ in moments])
        return [(frame, caption) for frame, (_, caption) in zip(frames, moments, strict=True)]

    def _film(self, chunks: Iterator[np.ndarray], request: Request) -> Iterator[Made]:
        recording, done, shown = request.recording, 0, 0.0
        with tempfile.TemporaryDirectory(prefix="eat_hf_") as folder:
            path = Path(folder) / request.name
            with VideoWriter(path, recording) as video:
                for chunk in chunks:
                    video.write(chunk)
                    done += len(chunk)
                    if time.monotonic() - shown > PREVIEW_EVERY:
                        shown = time.monotonic()
                        yield Made(chunk[-1], done, recording.num_frames)
            yield Made(None, done, recording.num_frames, path)

    def gallery(self, request: Request) -> list[tuple[np.ndarray, str]]:
        """A frame of every emotion of the model, at one moment of the beginning of the voice, with its name."""
        request = replace(request, recording=request.recording.first(PREVIEW_SECONDS)).with_face()
        request = request.changed(paste_back=False)
        moment = [request.recording.num_frames // 2]
        names = self.pipe.emotion_mapper.config.emotions
        return [(self._render_some({}, request.changed(emotion=name), moment)[0], name) for name in names]

    # Words -----------------------------------------------------------------------------------------------------------

    def in_words(self, session: Session, text: str, name: str = "") -> EmotionAdapter:
        """An emotion from a sentence, or from several phrasings, a line each; at once.

        Raises:
            UserError: the text is empty or too long, or the model has no words.
        """
        return self.pipe.text_adapter(*self._named(session, text, name))

    def _named(self, session: Session, text: str, name: str) -> tuple[list[str], str]:
        """Phrasings, and a name for them that no emotion has yet."""
        phrasings = _phrasings(text)
        if len(phrasings) > self.limits.phrasings:
            raise UserError(f"Up to {self.limits.phrasings} phrasings, a line each, are allowed here.")
        name = name.strip() or as_name(slug(phrasings[0]), LONGEST_OF_TEXT) or "in_words"
        number, first = 2, check_name(name)
        while name in self.emotions(session):
            name, number = f"{first}_{number}", number + 1
        return phrasings, name

    def preview(self, request: Request, adapter: EmotionAdapter) -> list[tuple[np.ndarray, str]]:
        """Some frames without emotion, and the same frames with the only one of an adapter."""
        [name] = adapter.config.emotions
        request = replace(request, recording=request.recording.first(PREVIEW_SECONDS)).with_face()
        frames = [round((n + 0.5) / PREVIEWED * request.recording.num_frames - 0.5) for n in range(PREVIEWED)]
        shown = [
            (frame, caption)
            for adapters, emotion, caption in (({}, "neutral", "neutral"), ({name: adapter}, name, name))
            for frame in self._render_some(adapters, request.changed(emotion=emotion), frames)
        ]
        return shown

    def refine(
        self, session: Session, request: Request, text: str, name: str, steps: int, running: Refinement
    ) -> Iterator[LearningStep | EmotionAdapter]:
        """Tune an emotion in words with CLIP: steps, then the adapter at its best; sooner if `running` is stopped.

        Raises:
            UserError: see `EATPipeline.learn_emotion`.
        """
        running.going = True
        yield from self._learn(session.adapters, request, *self._named(session, text, name), steps, running)

    def film_words(
        self, request: Request, adapter: EmotionAdapter, text: str, portrait: str | None, voice: str | None
    ) -> tuple[Iterator[Made], str]:
        """A video with the only emotion of an adapter made from a text, and the code that makes the same."""
        [name] = adapter.config.emotions
        session = Session({name: adapter}, {name: f"PATH/TO/{name}"})
        request = replace(request.changed(emotion=name), name="words.mp4")
        tuned = "clip" in adapter.config.training
        code = self.python_code(session, portrait, voice, request, None if tuned else _phrasings(text))
        return self.make_video(session, request), code

    def use(self, session: Session, adapter: EmotionAdapter) -> tuple[Session, str]:
        """The session with an adapter that was made here, and its name."""
        return self._add(session, adapter, None, None)

    @contextmanager
    def packed(self, adapter: EmotionAdapter) -> Iterator[Path]:
        """A zip file of the adapter's folder, which is gone afterwards."""
        name = slug(adapter.config.emotions[0]) or "emotion"  # within the file; outside, the server names things
        with tempfile.TemporaryDirectory(prefix="eat_hf_") as folder:
            saved, packed = Path(folder) / "adapter", Path(folder) / "adapter.zip"
            adapter.save(saved)
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(saved.iterdir()):
                    archive.write(path, f"{name}/{path.name}")
            yield packed

    # Adapters --------------------------------------------------------------------------------------------------------

    def load_from_hub(self, session: Session, repository: str, name: str | None = None) -> tuple[Session, str]:
        """Load a public adapter of the Hub for one visitor; the session with it, and its name.

        Raises:
            UserError: there is none, it does not fit, or is too large.
        """
        repository = repository.strip()
        # the server's own folders, and what only its owner may see, are not on offer
        if not _is_repository(repository):
            raise UserError(f"Write the adapter's repository as OWNER/NAME, not {shown(repository)}.")
        most = {CONFIG: JSON_BYTES, WEIGHTS: self.limits.adapter_megabytes * 1_000_000}
        with tempfile.TemporaryDirectory(prefix="eat_hf_") as folder:  # not the cache, which would grow and grow
            fetch_small_files(repository, most, Path(folder), token=False)
            return self._load(session, Path(folder), name, repository)

    def load_folder(self, session: Session, files: Sequence[str], name: str | None = None) -> tuple[Session, str]:
        """Load an adapter from the uploaded files of its folder, as `load_from_hub`."""
        with tempfile.TemporaryDirectory(prefix="eat_hf_") as folder:
            for name_there in (CONFIG, WEIGHTS):
                found = [Path(file).resolve() for file in files if Path(file).name == name_there]
                if len(found) > 1:
                    raise UserError(f"There are {len(found)} files {name_there}; upload the folder of one adapter.")
                if found:
                    (Path(folder) / name_there).symlink_to(found[0])
            if not (Path(folder) / CONFIG).is_file():
                raise RepositoryError(f"This folder is not an adapter: it has no {CONFIG}.")
            return self._load(session, Path(folder), name, None)

    def _load(self, session: Session, folder: Path, name: str | None, place: str | None) -> tuple[Session, str]:
        return self._add(session, EmotionAdapter.load(folder, self.pipe.base), name, place)

    def _add(
        self, session: Session, adapter: EmotionAdapter, name: str | None, place: str | None
    ) -> tuple[Session, str]:
        if len(session.adapters) == self.limits.adapters:
            raise UserError(f"{self.limits.adapters} adapters are loaded; unload one first.")
        view = self.pipe.with_adapters(session.adapters)
        name = view.add_adapter(adapter, name or None)
        if len(view.emotions) - len(self.pipe.emotions) > self.limits.adapters:
            raise UserError(f"Adapters may add {self.limits.adapters} emotions here; unload one first.")
        return Session(view.adapters, {**session.places, name: place or f"PATH/TO/{name}"}), name

    def unload(self, session: Session, name: str) -> Session:
        """The session without one of its adapters."""
        view = self.pipe.with_adapters(session.adapters)
        view.unload_adapter(name)
        return Session(view.adapters, {key: place for key, place in session.places.items() if key != name})

    def push(self, session: Session, name: str, repository: str, token: str, private: bool, license: str | None) -> str:
        """Upload an adapter with the visitor's own token; the commit's address."""
        token, repository = token.strip(), repository.strip()
        if not token:  # without one, the client would use the server's
            raise UserError("Pushing needs a token of yours that may write (huggingface.co/settings/tokens).")
        if not TOKEN.fullmatch(token):  # what no header may hold would come back in an error's words
            raise UserError("This is not a token of the Hub; they look like hf_ with letters and digits after it.")
        if not _is_repository(repository):
            raise UserError("Give the repository to write to, as OWNER/NAME.")
        if license and not LICENSE.fullmatch(license):
            raise UserError("Give the licence as the Hub names it, such as cc-by-4.0.")
        view = self.pipe.with_adapters(session.adapters)
        return view.push_adapter_to_hub(name, repository, token=token, private=private, license=license or None)

    # Code ------------------------------------------------------------------------------------------------------------

    def python_code(
        self,
        session: Session,
        portrait: str | None,
        voice: str | None,
        request: Request,
        emotion_text: Sequence[str] | None = None,
    ) -> str:
        """The same video, without this page; with `emotion_text` in place of the emotion, if there is one."""
        lines = ["from eat_hf import EATPipeline", "", f'pipe = EATPipeline.from_pretrained("{self.model}")']
        felt = "neutral" if is_voice(request.options.emotion) else request.options.emotion
        shown = {name for _, mixture in self.track(session, felt).keyframes for name in mixture}
        for name, adapter in session.adapters.items():
            if shown & set(adapter.config.emotions) and emotion_text is None:
                lines.append(f"pipe.load_adapter({_quoted(session.places[name])}, {_quoted(name)})")
        options = request.options
        motion, emotion, intensity = str(options.head_motion), options.emotion, options.intensity
        emotion = f"emotion={_quoted(emotion) if isinstance(emotion, str) else repr(emotion)}"
        arguments = [
            _quoted(Path(portrait or "portrait.png").name),
            _quoted(Path(voice or "voice.wav").name),
            emotion if emotion_text is None else f"emotion_text=[{', '.join(map(_quoted, emotion_text))}]",
            f"intensity={f'{intensity:g}' if isinstance(intensity, int | float) else repr(intensity)}",
            f"head_motion={_quoted(motion if motion in ('natural', 'still') else Path(motion).name)}",
            f"generator={options.generator}",
        ]
        amounts = zip(("head_amount", "blinks", "gaze"), options.amounts, strict=True)
        arguments += [f"{name}={amount:g}" for name, amount in amounts if amount != 1]
        if isinstance(options.face, int):
            arguments.append(f"face={options.face}")
        if options.paste_back:
            arguments.append("paste_back=True")
        if options.size is not None:
            arguments.append(f"size={options.size!r}")
        lines += ["out = pipe(", *(f"    {argument}," for argument in arguments), ")"]
        return "\n".join([*lines, f"out.save({_quoted(request.name)})"])


def _reached(
    run: Callable[[Callable[[LearningStep], bool]], EmotionAdapter], running: Refinement
) -> Iterator[LearningStep | EmotionAdapter]:
    """What `run`, which takes a function to call after every step, reaches on its way, and its result."""
    said: SimpleQueue[LearningStep | EmotionAdapter | BaseException] = SimpleQueue()

    def watch(reached: LearningStep) -> bool:
        said.put(reached)
        return running.going

    def work() -> None:
        try:
            said.put(run(watch))
        except BaseException as error:  # raised where somebody is listening
            said.put(error)

    # in the context of the request, to whose page warnings go
    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
    try:
        while True:
            try:
                item = said.get(timeout=0.5)  # not for ever: work that waits cannot be interrupted
            except Empty:
                continue
            if isinstance(item, BaseException):
                raise item
            yield item
            if not isinstance(item, LearningStep):
                return
    finally:
        running.going = False  # nobody listens any more


def same_file(one: str | None, other: Path) -> bool:
    """Whether two files have the same content."""
    if not one or Path(one).stat().st_size != other.stat().st_size:
        return False
    return hashlib.sha256(Path(one).read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()


def _is_repository(name: str) -> bool:
    return len(name) <= LONGEST_REPOSITORY and REPOSITORY.fullmatch(name) is not None


def _phrasings(text: str) -> list[str]:
    """The lines of a text that are not empty, at least one."""
    return [line.strip() for line in text.splitlines() if line.strip()] or [""]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # which Python reads the same, whatever it holds


def _labelled(frames: np.ndarray, name: str) -> np.ndarray:
    """Frames (n, H, W, 3) with a word in the corner."""
    font = ImageFont.load_default(size=16)
    pictures = [Image.fromarray(frame) for frame in frames]
    for picture in pictures:
        draw = ImageDraw.Draw(picture)
        place = (8, picture.height - 8)
        draw.text(place, name, "white", font, anchor="ls", stroke_width=2, stroke_fill="black")
    return np.stack([np.asarray(picture) for picture in pictures])


def _grid(cells: Sequence[np.ndarray]) -> np.ndarray:
    """Chunks (n, H, W, 3) in rows of four, black where there is none."""
    missing = -len(cells) % GRID_COLUMNS
    cells = [*cells, *[np.zeros_like(cells[0])] * missing]
    rows = [np.concatenate(cells[i : i + GRID_COLUMNS], 2) for i in range(0, len(cells), GRID_COLUMNS)]
    return np.concatenate(rows, 1)
