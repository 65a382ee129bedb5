"""The whole path: a portrait and a recording become a talking, emotional video (paper section 3, Fig. 2)."""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor

from ..adapters.clip import CLIP
from ..adapters.emotion_adapter import EmotionAdapter
from ..adapters.fingerprint import digest_of
from ..adapters.from_text import FOLDER, find_clip, find_sync_expert
from ..adapters.tuning import LearningOptions, LearningStep, PracticeClip, learn_emotion
from ..animation.clip_plan import ClipPlan, plan_clip
from ..animation.expression import EmotionMix, SpeechFeatures, hear
from ..animation.head_pose import DRIVING_BATCH, follow_driver
from ..animation.live import Motion, check_live
from ..animation.networks import Adaptation, KeypointDetector, Renderer, SpeechEncoder
from ..animation.portrait import Portrait, read_portrait
from ..animation.rendering import render_plan
from ..errors import UserError, explain_memory
from ..hub.cards import base_card, find_card
from ..hub.client import explained, push_saved
from ..inputs.emotions import Emotion, Intensity
from ..inputs.faces import SIZE, Face, PasteBack, find_driver, find_portrait, load_face_models
from ..inputs.head_motion import HeadMotion, begin_motion
from ..inputs.numbers import FrameSize
from ..media.files import replaced_folder
from ..media.pictures import read_image
from ..media.recordings import Recording, read_audio
from ..media.videos import read_video
from ..models.a2et import A2ET
from ..models.edn import EDN
from ..models.emotion_mapper import EmotionMapper
from ..models.expression_basis import ExpressionBasis
from ..models.judges.sync_expert import SyncExpert
from ..models.motion_estimator import MotionEstimator
from ..models.parameters import parameter_shares
from ..names import check_name
from ..shipped import shipped_checkpoint
from .arguments import AudioInput, ClipOptions, HeadMotionInput, ImageInput, OutputType, check_image, seeded
from .folder import belongs_to_model, check_model, check_networks, fetch_model, loaded_folder
from .live import LiveSession, refuse_voice
from .offload import offload_submodules
from .pipeline_output import EATPipelineOutput
from .precision import renderer_dtype, saved_dtype
from .voice import VoiceEmotionInput
from .voice_led import VoiceLedPipeline

IN_WORDS = "in words"  # the emotion that `emotion_text` asks for, within one clip


class EATPipeline(VoiceLedPipeline):
    """Animates a portrait with a voice and an emotion.

    Settings belong to the components: what keypoints and expressions mean, what portraits are aligned to. So
    `EATPipeline(**pipe.components)` is the same model.

    Args:
        keypoint_detector, motion_estimator: read the portrait (and the head pose of driving videos). Detectors are
            `CanonicalKeypointDetector`, as published, and `LandmarkDetector`.
        speech_encoder: hears what is said, such as `DeepSpeechEncoder`. A converted release may lack it (None); then
            audio cannot be read.
        emotion_mapper: emotional prompts.
        a2et, expression_basis, edn: the expression of every frame.
        repos_net: renders it: `RePosNet`, as published, or `DetailRenderer`.
    """

    _optional_components = ["speech_encoder"]
    _exclude_from_cpu_offload = ["expression_basis"]  # a few numbers, and no parameters, which hooks count on
    model_cpu_offload_seq = "motion_estimator->keypoint_detector->speech_encoder->emotion_mapper->edn->a2et->repos_net"

    def __init__(
        self,
        keypoint_detector: KeypointDetector,
        motion_estimator: MotionEstimator,
        emotion_mapper: EmotionMapper,
        a2et: A2ET,
        edn: EDN,
        repos_net: Renderer,
        speech_encoder: SpeechEncoder | None,
        expression_basis: ExpressionBasis,
    ):
        super().__init__()
        given = locals()
        components = {name: given[name] for name in self.component_names()}
        self.register_modules(**components)
        # name packages alone in model_index.json, so that saved models outlive a change of their inner layout
        classes = {name: type(value) for name, value in components.items() if value is not None}
        self.register_to_config(
            **{name: (kind.__module__.partition(".")[0], kind.__name__) for name, kind in classes.items()}
        )

    # Loading and saving ----------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> "EATPipeline":
        """Load a local folder, a repository of the Hub, or "eat-demo", the checkpoint that ships with the package.

        Weights are read from safetensors alone: no pickle is ever opened.

        What finds faces is loaded as well, so that the first clip need not wait for it.

        Other arguments are those of `DiffusionPipeline.from_pretrained`, among them `revision`, `token`, `variant` and
        `dtype` (or `torch_dtype`): a dtype or its name; "auto", as the renderer was saved; or a dictionary of them,
        of "repos_net" and "default". Only the renderer has another than float32, see `to`. A Hub repository comes from
        the cache if the Hub cannot be reached, or must not be (HF_HUB_OFFLINE=1).

        Raises:
            RepositoryError: the folder or repository cannot be had: a `UserError` and an `OSError`.
            ValueError: no such dtype, or one for a component that stays in float32.
        """
        place, old_name = pretrained_model_name_or_path, kwargs.pop("torch_dtype", None)
        if not os.path.exists(place):
            place = shipped_checkpoint(os.fspath(place)) or place
        dtype = renderer_dtype(kwargs.pop("dtype", old_name))
        with explained(place, kwargs.get("revision")):
            if Path(place).is_dir():  # `download` looks at what comes from the Hub
                check_model(Path(place), kwargs.get("variant"), kwargs.keys())
            pipeline = super().from_pretrained(place, **{"use_safetensors": True, **kwargs})
            check_networks(pipeline.networks, os.fspath(place))
        load_face_models()
        if dtype == "auto":
            dtype = saved_dtype(Path(place) if Path(place).is_dir() else loaded_folder(os.fspath(place), kwargs))
        pipeline._round_renderer(dtype)
        return pipeline

    @classmethod
    def download(cls, pretrained_model_name: str, **options: Any) -> Path:
        """Bring a repository of the Hub into the cache, without loading it; the folder it lies in there.

        `DiffusionPipeline.download` knows components of diffusers and transformers alone, and would run what Python
        it finds. Here configurations and safetensors come down, and the card; nothing else is ever asked for.

        Args:
            options: revision, token, cache_dir, force_download and local_files_only; others say nothing here.
        """
        return fetch_model(pretrained_model_name, **options)

    def save_pretrained(
        self, save_directory: str | os.PathLike, safe_serialization: bool = True, **options: Any
    ) -> None:
        """`DiffusionPipeline.save_pretrained`, with what turns sentences into emotions, if the model has that.

        An older model in that folder is replaced as a whole, or stays if anything goes wrong; files that are no part of
        a model, such as README.md and .git, stay in any case.

        Args:
            options: among them `variant` and `max_shard_size`.

        Raises:
            ValueError: a pickle is asked for.
            UserError: the folder cannot be written.
        """
        if not safe_serialization:
            raise ValueError("eat_hf writes safetensors only, since pickles can run any program; leave out "
                             "safe_serialization=False.")  # fmt: skip
        text = self.text_to_emotion
        if options.get("push_to_hub"):
            options.setdefault("repo_id", Path(save_directory).resolve().name)
        ours = belongs_to_model(options.get("variant"), self.components)
        with replaced_folder(save_directory, self.config_name, ours) as folder:
            super().save_pretrained(str(folder), **options)
            if text is not None:
                text.save(folder / FOLDER)

    def push_to_hub(
        self, repo_id: str, *, license: str | None = None, commit_message: str = "Upload EATPipeline", **options: Any
    ) -> str:
        """Upload the whole pipeline, with its card, to a repository of the Hub; the commit's address.

        The card is the repository's own if it has one, else that of where the pipeline was loaded from, else a new one
        (`cards.base_card`).

        Args:
            repo_id: OWNER/NAME, or NAME alone; made if it does not exist.
            license: of a new card, as the Hub names it, such as "cc0-1.0".
            options: private, token and revision, as for `hub.client.push_saved`.

        Raises:
            RepositoryError: the Hub cannot be reached or refuses; or `private` is asked of a public repository.
        """

        def save(folder: Path, repo_id: str) -> None:
            self.save_pretrained(folder)
            parts = parameter_shares(self.components)
            new = base_card(self.emotion_mapper.config.emotions, parts, repo_id, license=license)
            (folder / "README.md").write_text(str(find_card(self.name_or_path) or new), encoding="utf8")

        return push_saved(save, repo_id, commit_message=commit_message, **options)

    # Components ------------------------------------------------------------------------------------------------------

    def to(self, *args, **kwargs) -> "EATPipeline":
        """`DiffusionPipeline.to`, adapters included; a dtype is the renderer's alone.

        RePos-Net is nearly all of the work, and its frames look the same in bfloat16 and float16. What decides where
        keypoints are stays in float32, for they do not survive less.
        """
        dtypes = [kwargs.pop("dtype", None), *(given for given in args if isinstance(given, torch.dtype))]
        super().to(*(given for given in args if not isinstance(given, torch.dtype)), **kwargs)
        for dtype in filter(None, dtypes):
            self._round_renderer(dtype)
        for adapter in self.adapters.values():
            adapter.to(self.device)
        return self

    def _round_renderer(self, dtype: torch.dtype) -> None:
        if dtype != self.repos_net.dtype:
            self._before_rounding = digest_of(self.networks, "repos_net") | self._before_rounding
            torch.nn.Module.to(self.repos_net, dtype)  # diffusers' own warns of parts to keep in float32: []

    def enable_sequential_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """`DiffusionPipeline.enable_sequential_cpu_offload`, with what may not be split moved as a whole.

        Load adapters before: the weights that they are compared with are out of reach afterwards.
        """
        super().enable_sequential_cpu_offload(gpu_id, device)
        for name, module in self.networks.components.items():
            if name not in self._exclude_from_cpu_offload:
                offload_submodules(module, self._offload_device)

    def compile(self, **options: Any) -> "EATPipeline":
        """Have `torch.compile` make the renderer faster, in place; frames are the same but for rounding.

        The first frames then take a minute or more, so that it pays for many clips or long ones, and on GPUs most. On a
        CPU it needs a C++ compiler. What is loaded and saved does not change; `to` a precision comes before. Options
        are those of `torch.compile`.
        """
        for module in self.repos_net.per_frame:  # copies that carry adapters share these
            module.compile(**options)
        return self

    # Emotions: the others are those of `AdaptablePipeline` -----------------------------------------------------------

    def learn_emotion(
        self,
        text: str | Sequence[str],
        image: ImageInput,
        audio: AudioInput,
        name: str,
        *,
        clip: str | CLIP | None = None,
        sync_expert: str | SyncExpert | None = None,
        options: LearningOptions | None = None,
        head_motion: HeadMotionInput = "natural",
        generator: torch.Generator | int | None = None,
        watch: Callable[[LearningStep], bool | None] | None = None,
    ) -> EmotionAdapter:
        """Learn an emotion from a sentence with CLIP (paper section 4.5), and load it as an adapter.

        Where the model has a text mapper of its own, that is where it starts from. No network of the pipeline changes.

        Args:
            text: what the face should look like, such as "She is talking while crying hard."; or several phrasings of
                one wish, which are averaged.
            image, audio: a portrait and a neutral recording to learn with. The emotion is for any other, too.
            name: of the adapter, and of its emotion.
            clip: a CLIPModel of transformers, by folder or Hub id. Default: openai/clip-vit-large-patch14; if the
                model came with a small one of its own, only where it is in the cache already.
            sync_expert: whose opinion on the lips counts, by folder or Hub id. Default: the model's own; without one,
                there is no sync loss.
            options: steps, rates and weights.
            head_motion, generator: as for `__call__`.
            watch: called after every step with what has been reached; returning False stops. The best is kept.

        Raises:
            UserError: the text, portrait, recording or name cannot be used, there is no CLIP, or not enough memory.
        """
        check_name(name)
        if name in self.emotions or name in self.adapters:
            raise UserError(f"There is an emotion {name!r} already; give this one another name.")
        bundled = self.text_to_emotion
        judge = find_clip(clip, bundled, self.device)
        judge.embed_text(text)  # a mistake in it shall be known before anything is read
        start = bundled.adapter(text, name) if bundled else EmotionAdapter.create(self.base, [name], "neutral")
        expert = find_sync_expert(sync_expert, bundled, self.device)
        generator = seeded(generator)
        with explain_memory("Tuning needs about 3 GB beside what CLIP takes; a smaller CLIP needs less."):
            practice = self._practice(image, read_audio(audio), head_motion, generator)
            adapter = learn_emotion(
                *(self.networks, practice, text, name, judge, start, options or LearningOptions()),
                generator=generator,
                watch=watch,
                sync_expert=expert,
                progress=self.progress_bar,
            )
        self.add_adapter(adapter)
        return adapter

    @torch.no_grad()
    def _practice(
        self, image: ImageInput, voice: Recording, head_motion: HeadMotionInput, generator: torch.Generator | None
    ) -> PracticeClip:
        portrait, speech = self.prepare_portrait(image), self.encode_audio(voice)
        motion = self.prepare_motion(head_motion, voice.num_frames, speech.energy, generator)
        return PracticeClip.of(self.a2et, portrait, speech, motion, voice.waveform)

    # Generation ------------------------------------------------------------------------------------------------------

    def __call__(
        self,
        image: ImageInput,
        audio: AudioInput,
        emotion: Emotion | None = "neutral",
        intensity: Intensity = 1.0,
        head_motion: HeadMotionInput = "natural",
        generator: torch.Generator | int | None = None,
        output_type: OutputType = "np",
        batch_size: int = 8,
        face: int | Face | None = None,
        paste_back: bool = False,
        align: bool = True,
        emotion_text: str | Sequence[str] | None = None,
        size: FrameSize | None = None,
        audio_track: int | None = None,
        head_amount: float = 1.0,
        blinks: float = 1.0,
        gaze: float = 1.0,
        voice_emotion: VoiceEmotionInput | None = None,
        voice_labels: Mapping[str, str] | None = None,
        return_dict: bool = True,
        callback_on_chunk_end: Callable[["EATPipeline", int, dict[str, Any]], dict[str, Any] | None] | None = None,
    ) -> Any:
        """Generate a whole clip.

        Args:
            image: path, PIL picture or uint8 RGB array with a face in it.
            audio: path of anything FFmpeg reads, or (samples, sampling_rate).
            emotion, intensity, head_motion, generator, batch_size, face, paste_back, align, emotion_text, size,
                audio_track, head_amount, blinks, gaze, voice_emotion, voice_labels: how it shall talk, see
                `ClipOptions`. Emotions are those of `emotions`.
            output_type: "np", "pil" or "pt".
            return_dict: False gives a tuple of the output's values in its place.
            callback_on_chunk_end: called with the pipeline, the number of the chunk and {"frames": (n, H, W, 3) uint8}
                after every chunk of up to `batch_size` frames; what it returns may hold other "frames" to go on with.
                To stop, raise.

        Returns:
            `EATPipelineOutput`, or a tuple of its values; as many frames as the recording's length needs.

        Raises:
            UserError: something about the input, in one sentence.
        """
        if output_type not in ("np", "pil", "pt"):
            raise ValueError(f"output_type must be 'np', 'pil' or 'pt', not {output_type!r}.")
        options = ClipOptions(
            *(emotion, intensity, head_motion, generator, batch_size, face, paste_back, align, emotion_text, size),
            *(audio_track, head_amount, blinks, gaze, voice_emotion, voice_labels),
        )
        recording = read_audio(audio, audio_track)
        chunks = []
        for number, chunk in enumerate(self.stream(image, recording, options=options)):
            if callback_on_chunk_end is not None:
                chunk = (callback_on_chunk_end(self, number, {"frames": chunk}) or {}).get("frames", chunk)
            chunks.append(chunk)
        output = EATPipelineOutput.of(np.concatenate(chunks), recording, output_type)
        return output if return_dict else output.to_tuple()

    def stream(
        self, image: ImageInput, audio: AudioInput, *arguments: Any, options: ClipOptions | None = None, **named: Any
    ) -> Generator[np.ndarray, None, None]:
        """The same frames as `__call__`, in chunks (n, H, W, 3) uint8, n up to `batch_size`, as they are made.

        The input is checked, and the whole recording heard, before the iterator is returned. Only
        `driving_centring="clip"` has to know the expression of the last frame before it shows the first.

        Args:
            image, audio: as for `__call__`.
            arguments, named: those of `ClipOptions`, such as emotion="happy".
            options: all of them at once; named ones change it.
        """
        options = ClipOptions.of(options, *arguments, **named)
        return self.render_clip(self.plan_clip(image, audio, options=options), options.paste_back)

    def plan_clip(
        self, image: ImageInput, audio: AudioInput, *arguments: Any, options: ClipOptions | None = None, **named: Any
    ) -> ClipPlan:
        """All of a clip but its pictures; arguments and errors as of `stream`.

        `render_clip` makes the frames, or a few of them (`ClipPlan.only`) for a quick look.
        """
        # 1. Check the input
        options = ClipOptions.of(options, *arguments, **named)
        check_image(image)
        adaptations = self.adaptations  # as of now, whatever other threads load and unload
        if options.emotion_text is not None:
            in_words = self.text_adapter(options.emotion_text, IN_WORDS).adapt(self.networks)
            options = replace(options, emotion=IN_WORDS, emotion_text=None)
            adaptations = (adaptations[0], in_words)
        emotions = [name for adaptation in adaptations for name in adaptation.emotions]
        options.check_emotion(emotions)
        generator = options.seeded()
        recording = read_audio(audio, options.audio_track)
        options = self._follow_voice(options, recording, emotions)
        track, frames = options.track(emotions), recording.num_frames

        # 2. Read the portrait
        size = options.frame_size(self.repos_net.largest_frames)
        portrait = self.prepare_portrait(image, options.face, options.align, size)

        # 3. Hear the speech
        speech = self.encode_audio(recording)
        recording.forget()

        # 4. Draw the emotions
        mix = None
        if track is not None:
            mix = EmotionMix.draw(track, frames, self.networks, adaptations, generator, self._execution_device)

        # 5. Move the head
        given = options.head_motion, frames, speech.energy, generator, options.align
        motion = self.prepare_motion(*given, *options.amounts)

        # 6. Move the face
        return plan_clip(self.networks, portrait, speech, motion, mix, options.batch_size, self.progress_bar)

    def render_clip(self, plan: ClipPlan, paste_back: bool = False) -> Generator[np.ndarray, None, None]:
        """7. Render: frames of a plan, in chunks (n, H, W, 3) uint8, as they are asked for."""
        aligned = plan.portrait.aligned
        paste = PasteBack(aligned.picture, aligned.matrix, len(aligned.detailed)) if paste_back else None
        try:
            with self.progress_bar(total=len(plan)) as progress:
                progress.set_description("frames")
                for frames in render_plan(self.networks, plan):
                    progress.update(len(frames))
                    yield frames if paste is None else np.stack([paste(frame) for frame in frames])
        finally:
            self.maybe_free_model_hooks()

    def live(self, image: ImageInput, *arguments: Any, options: ClipOptions | None = None, **named: Any) -> LiveSession:
        """Begin to talk live: sound in as it comes, frames out.

        The session's `push(samples, sampling_rate)` gives frames (n, H, W, 3) uint8, those that one call gives on the
        same sound; `set(emotion=, intensity=)` changes what is felt, `finish()` gives the last frames, `latency` says
        how many seconds frames follow the sound. Memory does not grow with time. The portrait is encoded once, and
        emotions are those that are there now.

        Args:
            image, arguments, named, options: as for `stream`; the sound has no tracks. A driving video is read at once,
                and played forwards and backwards.

        Raises:
            UserError: something about the input, in one sentence; or the model has to know a whole recording before
                its first frame, as one with the published speech encoder has.
        """
        options = ClipOptions.of(options, *arguments, **named)
        check_image(image)
        refuse_voice(options.emotion, options.intensity)
        check_live(self.networks)

        def motion(generator: torch.Generator | None) -> Motion:
            return self.begin_motion(options.head_motion, generator, options.align, None, *options.amounts)

        def in_words(text: str | Sequence[str], name: str) -> Adaptation:
            return self.text_adapter(text, name).adapt(self.networks)

        adaptations = self.adaptations
        size = options.frame_size(self.repos_net.largest_frames)
        portrait = self.prepare_portrait(image, options.face, options.align, size)
        return LiveSession(
            self.networks,
            portrait,
            motion,
            adaptations,
            options,
            in_words,
            self._execution_device,
            self.maybe_free_model_hooks,
        )

    # Steps -----------------------------------------------------------------------------------------------------------

    def prepare_portrait(
        self, image: ImageInput, face: int | Face | None = None, align: bool = True, size: FrameSize = SIZE
    ) -> Portrait:
        """Find the face, align it (unless told not to), and read its keypoints, pose and expression."""
        wanted = self.keypoint_detector.config
        picture = read_image(image)
        aligned = find_portrait(picture, face, align, wanted.template_landmarks, size, wanted.landmark_reader)
        return read_portrait(self.networks, aligned, self._execution_device)

    def encode_audio(self, recording: Recording) -> SpeechFeatures:
        """What is said and how it sounds, for every frame of the recording."""
        return hear(self.networks, torch.from_numpy(recording.waveform), recording.num_frames, self._execution_device)

    def prepare_motion(
        self,
        head_motion: HeadMotionInput,
        frames: int,
        energy: Tensor,
        generator: torch.Generator | None = None,
        align: bool = True,
        head_amount: float = 1.0,
        blinks: float = 1.0,
        gaze: float = 1.0,
    ) -> HeadMotion:
        """Head motion of `frames` frames, whatever form it was given in; amounts as of `ClipOptions`."""
        return self.begin_motion(head_motion, generator, align, frames, head_amount, blinks, gaze).push(energy)

    def begin_motion(
        self,
        head_motion: HeadMotionInput,
        generator: torch.Generator | None = None,
        align: bool = True,
        max_frames: int | None = None,
        head_amount: float = 1.0,
        blinks: float = 1.0,
        gaze: float = 1.0,
    ) -> Motion:
        """Head motion that is made, or played, as the voice comes in; of a driving video up to `max_frames` frames."""
        follow = lambda path: self.motion_from_video(path, max_frames, align=align)  # noqa: E731
        return begin_motion(head_motion, generator, follow, (head_amount, blinks, gaze))

    def motion_from_video(
        self,
        path: str | os.PathLike,
        max_frames: int | None = None,
        face: int | None = None,
        batch_size: int = DRIVING_BATCH,
        align: bool = True,
    ) -> HeadMotion:
        """Head motion of a driving video, relative to its first frame, and its blinks and gaze if the model sees them.

        Arguments and errors: see `inputs.faces.find_driver`; a UserError, too, if the video cannot be read.
        """
        scale = self.motion_estimator.config.driving_crop_scale
        reader = self.keypoint_detector.config.landmark_reader
        crops = find_driver(read_video(path, max_frames), os.fspath(path), face, align, scale, reader)
        return follow_driver(self.networks, self.progress_bar(crops), batch_size, self._execution_device)


# `DiffusionPipeline.from_pretrained` looks up the class that model_index.json names here
diffusers.EATPipeline = EATPipeline  # type: ignore[attr-defined]
