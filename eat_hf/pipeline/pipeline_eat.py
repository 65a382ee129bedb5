"""The whole path: a portrait and a recording become a talking, emotional video (paper section 3, Fig. 2)."""

import copy
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import Tensor

from .. import keypoints as kp
from ..adapters.clip import Clip
from ..adapters.emotion_adapter import RESERVED, EmotionAdapter, find_adapter
from ..adapters.fingerprint import digest_of
from ..adapters.from_text import FOLDER, EmotionWords, find_clip, find_words, load_sync_expert
from ..adapters.tuning import LearningOptions, LearningStep, learn_emotion
from ..animation.clip_plan import Performance
from ..animation.expression import Speech, SpeechWindows
from ..animation.head_pose import HeadPose
from ..animation.networks import Adaptation, MixedEAM, graft
from ..animation.portrait import Portrait
from ..animation.pose_pictures import pose_pictures
from ..animation.rendering import to_uint8
from ..constants import FPS
from ..errors import RepositoryError, UserError, explain_memory
from ..hub.cards import base_card, find_card, slug
from ..hub.client import create_repository, explained, fetch_folder, push_folder
from ..inputs.audio import log_mel, loudness
from ..inputs.emotions import Emotion, EmotionTrack, Intensity
from ..inputs.faces import (
    SIZE,
    AlignedPortrait,
    Face,
    PasteBack,
    align_portrait,
    choose_face,
    crop_driving_video,
    detect_faces,
    load_face_models,
)
from ..inputs.head_motion import HeadMotion
from ..media.pictures import read_image
from ..media.recordings import Recording, read_audio
from ..media.videos import read_video
from ..models.a2et import A2ET
from ..models.edn import EDN
from ..models.emotion_mapper import EmotionMapper
from ..models.expression_basis import ExpressionBasis
from ..models.judges.sync_expert import SyncExpert
from ..models.keypoint_detector import CanonicalKeypointDetector
from ..models.motion_estimator import MotionEstimator
from ..models.repos_net import RePosNet
from ..models.speech_encoder import DeepSpeechEncoder
from .arguments import AudioInput, HeadMotionInput, ImageInput, OutputType
from .pipeline_output import EATPipelineOutput

DRIVING_SMOOTHING = 0.04  # seconds; takes the estimator's tremble out of a driving video's pose
AHEAD = 48  # frames, at least, whose expression is computed at a time
LONGEST_SEARCH = 50  # frames of a driving video in which a face must show up

_LOADING = threading.Lock()  # held while a pipeline's adapters or words change

IN_WORDS = "in words"  # the emotion that `emotion_text` asks for, within one clip


class EATPipeline(DiffusionPipeline):
    """Animates a portrait with a voice and an emotion.

    Args:
        keypoint_detector, motion_estimator: read the portrait (and the head pose of driving videos).
        speech_encoder: hears what is said. A converted release may lack it (None); then audio cannot be read.
        emotion_mapper: emotional prompts.
        a2et, expression_basis, edn: the expression of every frame.
        repos_net: renders it.
        keypoint_space: what the detector returns: "canonical" keypoints, as published, or "posed" ones, as seen in
            the picture.
        expression_frame: "camera", as published: K = R K_c + t + E; "head": K = R (K_c + E) + t.
        hull_volume_exponent: p in E' = (PCA + EDN) * V**p; 1 as published.
        driving_centring: "clip", as published, shifts the whole clip's keypoints so that their mean equals the
            portrait's; "none" leaves them.
        template_landmarks: 68 pairs of pixels that portraits are aligned to; None is `faces.DEFAULT_TEMPLATE`.
        driving_crop_scale: side of the crop of a driving video, in widths of the face.
        blink_deformation: 3K numbers, what shutting the eyes adds to E' of a face of hull volume 1; None, as
            published: the model does not blink.
    """

    _optional_components = ["speech_encoder"]

    def __init__(
        self,
        keypoint_detector: CanonicalKeypointDetector,
        motion_estimator: MotionEstimator,
        emotion_mapper: EmotionMapper,
        a2et: A2ET,
        edn: EDN,
        repos_net: RePosNet,
        speech_encoder: DeepSpeechEncoder | None,
        expression_basis: ExpressionBasis,
        keypoint_space: str = "canonical",
        expression_frame: str = "camera",
        hull_volume_exponent: float = 1.0,
        driving_centring: str = "clip",
        template_landmarks: Sequence[Sequence[float]] | None = None,
        driving_crop_scale: float = 2.1,
        blink_deformation: Sequence[float] | None = None,
    ):
        super().__init__()
        self._adapters: dict[str, EmotionAdapter] = {}  # never changed, only replaced: others may be reading it
        self.before_rounding: dict[str, str] = {}  # digests of components that are no longer what was loaded
        self._words: list[EmotionWords | None] = []  # one, once they were looked for; shared with views
        for name, value, known in (
            ("keypoint_space", keypoint_space, ("canonical", "posed")),
            ("expression_frame", expression_frame, ("camera", "head")),
            ("driving_centring", driving_centring, ("clip", "none")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, not {value!r}.")
        if template_landmarks is not None and np.shape(template_landmarks) != (68, 2):
            raise ValueError(f"template_landmarks must be 68 pairs, not of shape {np.shape(template_landmarks)}.")
        if blink_deformation is not None and len(blink_deformation) != 3 * expression_basis.config.keypoints:
            raise ValueError(
                f"blink_deformation must be {3 * expression_basis.config.keypoints} numbers, three a keypoint, "
                f"not {len(blink_deformation)}."
            )
        components = {
            "keypoint_detector": keypoint_detector,
            "motion_estimator": motion_estimator,
            "emotion_mapper": emotion_mapper,
            "a2et": a2et,
            "edn": edn,
            "repos_net": repos_net,
            "speech_encoder": speech_encoder,
            "expression_basis": expression_basis,
        }
        self.register_modules(**components)
        # name the package alone in model_index.json, so that saved models outlive a change of its inner layout
        self.register_to_config(
            **{name: ("eat_hf", type(value).__name__) for name, value in components.items() if value is not None}
        )
        self.register_to_config(
            keypoint_space=keypoint_space,
            expression_frame=expression_frame,
            hull_volume_exponent=hull_volume_exponent,
            driving_centring=driving_centring,
            template_landmarks=None if template_landmarks is None else np.asarray(template_landmarks).tolist(),
            driving_crop_scale=driving_crop_scale,
            blink_deformation=None if blink_deformation is None else [float(x) for x in blink_deformation],
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs) -> "EATPipeline":
        """Load a local folder or a repository of the Hub, from safetensors alone: no pickle is ever opened.

        What finds faces is loaded as well, so that the first clip need not wait for it.

        Other arguments are those of `DiffusionPipeline.from_pretrained`, among them `revision`, `token` and
        `torch_dtype` (see `to`). A Hub repository comes from the cache if the Hub cannot be reached, or must not be
        (HF_HUB_OFFLINE=1).

        Raises:
            RepositoryError: the folder or repository cannot be had: a `UserError` and an `OSError`.
        """
        dtype = kwargs.pop("torch_dtype", None) or torch.float32
        with explained(pretrained_model_name_or_path, kwargs.get("revision")):
            pipeline = super().from_pretrained(pretrained_model_name_or_path, **{"use_safetensors": True, **kwargs})
        load_face_models()
        return pipeline.to(dtype)

    @classmethod
    def download(
        cls,
        pretrained_model_name: str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        force_download: bool = False,
        local_files_only: bool | None = None,
        **kwargs,
    ) -> Path:
        """Bring a repository of the Hub into the cache, without loading it; the folder it lies in there.

        `DiffusionPipeline.download` knows components of diffusers and transformers alone, and would run what Python
        it finds. Here configurations and safetensors come down, and the card; nothing else is ever asked for.
        """
        folder = fetch_folder(
            pretrained_model_name,
            ["model_index.json", "*/config.json", "*/*.safetensors", "README.md"],
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=bool(local_files_only),
        )
        if not (folder / cls.config_name).is_file():
            raise RepositoryError(f"{pretrained_model_name} is not a model of eat_hf: it has no {cls.config_name}.")
        return folder

    def save_pretrained(self, save_directory: str | os.PathLike, **options) -> None:
        """`DiffusionPipeline.save_pretrained`, words included."""
        words = self.words
        super().save_pretrained(save_directory, **options)
        if words is not None:
            words.save(Path(save_directory) / FOLDER)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload EATPipeline",
        licence: str | None = None,
    ) -> str:
        """Upload the whole pipeline, with its card, to a repository of the Hub; the commit's address.

        The card is the repository's own if it has one, else that of where the pipeline was loaded from, else a new one
        (`cards.base_card`).

        Args:
            repo_id: OWNER/NAME, or NAME alone; made if it does not exist.
            private: whether only its owners see it, if it is made; None is what the owner's settings say.
            token: of the Hub; None is the one that is logged in.
            revision: branch to upload to, made if it does not exist. Default: main.
            licence: of a new card, as the Hub names it, such as "cc0-1.0".

        Raises:
            RepositoryError: the Hub cannot be reached or refuses; or `private` is asked of a public repository.
        """
        repo_id = create_repository(repo_id, private=private, token=token)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            card = find_card(self.name_or_path) or base_card(self, repo_id, licence=licence)
            Path(folder, "README.md").write_text(str(card), encoding="utf8")
            return push_folder(
                folder, repo_id, token=token, revision=revision, commit_message=commit_message, keep_card=True
            )

    @property
    def emotions(self) -> tuple[str, ...]:
        """Names that `emotion` may be or mix: the model's own, then those of loaded adapters."""
        loaded = self._adapters.values()
        return (*self.emotion_mapper.config.emotions, *(name for adapter in loaded for name in adapter.config.emotions))

    # Adapters --------------------------------------------------------------------------------------------------------

    @property
    def adapters(self) -> dict[str, EmotionAdapter]:
        """The loaded adapters by name."""
        return dict(self._adapters)

    def with_adapters(self, adapters: Mapping[str, EmotionAdapter] | None = None) -> "EATPipeline":
        """A pipeline of the same networks with other adapters loaded, such as those of one user of a server.

        No weights are copied. What is loaded and unloaded there does not show here.

        Args:
            adapters: by name, as `adapters` gives them. None: the ones of this pipeline.
        """
        view = copy.copy(self)
        view._adapters = dict(self._adapters if adapters is None else adapters)
        return view

    def load_adapter(
        self,
        path_or_id: str | os.PathLike,
        name: str | None = None,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
    ) -> str:
        """Add the emotions of an adapter to `emotions`. The model's own networks do not change.

        Any number of adapters may be loaded, from any thread; clips that are being generated do not notice.

        Args:
            path_or_id: a folder, or a repository of the Hub.
            name: what the adapter is called here, and its emotion, if it has one. Default: the emotion's own name.
            revision, subfolder, token: of the repository; a folder may have a subfolder, too.

        Returns:
            The name, for `unload_adapter` and `save_adapter`.

        Raises:
            UserError: there is no such adapter, it does not fit this model, or the name is taken.
        """
        folder = find_adapter(path_or_id, revision, subfolder, token)
        return self.add_adapter(EmotionAdapter.load(folder, self), name)

    def add_adapter(self, adapter: EmotionAdapter, name: str | None = None) -> str:
        """`load_adapter` of one that is there already, such as one that was just made for this model."""
        if name is not None and len(adapter.config.emotions) == 1:
            adapter = replace(adapter, config=replace(adapter.config, emotions=(name,)))
        name = name or "+".join(adapter.config.emotions)
        for part in adapter.parts.values():
            part.eval().requires_grad_(False)
        with _LOADING:
            for emotion in adapter.config.emotions:
                if not emotion.strip() or set(emotion) & set(RESERVED):
                    raise UserError(f"An emotion cannot be called {emotion!r}; give the adapter another name.")
                if emotion in self.emotions:
                    raise UserError(f"There is an emotion {emotion!r} already; give the adapter another name.")
            if name in self._adapters:
                raise UserError(f"There is an adapter {name!r} already; unload it first, or give another name.")
            self._adapters = {**self._adapters, name: adapter}
        return name

    def unload_adapter(self, name: str) -> None:
        """Forget an adapter and its emotions.

        Raises:
            UserError: there is none of that name.
        """
        with _LOADING:
            self._loaded(name)
            self._adapters = {other: adapter for other, adapter in self._adapters.items() if other != name}

    def save_adapter(self, name: str, directory: str | os.PathLike) -> None:
        """Write a loaded adapter as a folder that `load_adapter` reads.

        Raises:
            UserError: there is none of that name, or the folder cannot be written.
        """
        self._loaded(name).save(directory)

    def push_adapter_to_hub(
        self,
        name: str,
        repo_id: str,
        *,
        base_model: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload emotion adapter",
        licence: str | None = None,
        metrics: Mapping[str, float] | None = None,
        samples: Mapping[str, ImageInput] | None = None,
    ) -> str:
        """Upload a loaded adapter, with its card, to a repository of the Hub; the commit's address.

        A card that the repository has already stays as it is.

        Args:
            name: of the adapter.
            repo_id: OWNER/NAME, or NAME alone; made if it does not exist.
            base_model: repository of this model, for people who load the adapter; needed if it was loaded from a
                folder, whose path means nothing to them.
            private, token, revision: as for `push_to_hub`.
            licence: as the Hub names it, such as "cc0-1.0"; official weights pass theirs, cc-by-nc-4.0, on.
            metrics: what was measured on held-out clips, by name, for the card.
            samples: pictures for the card, by caption, such as frames of the emotion.

        Raises:
            UserError: there is no adapter of that name, or a picture cannot be read.
            RepositoryError: the Hub cannot be reached or refuses; or `private` is asked of a public repository.
        """
        adapter = self._loaded(name)
        if base_model is not None:
            adapter = replace(adapter, config=replace(adapter.config, base_model=base_model))
        pictures = {f"samples/{slug(caption)}.png": read_image(each) for caption, each in (samples or {}).items()}
        repo_id = create_repository(repo_id, private=private, token=token)
        with tempfile.TemporaryDirectory() as folder:
            adapter.save(folder, repo_id=repo_id, licence=licence, metrics=metrics, samples=list(pictures))
            for path, picture in pictures.items():
                Path(folder, path).parent.mkdir(exist_ok=True)
                Image.fromarray(picture).save(Path(folder, path))
            return push_folder(
                folder, repo_id, token=token, revision=revision, commit_message=commit_message, keep_card=True
            )

    def _loaded(self, name: str) -> EmotionAdapter:
        if name not in self._adapters:
            loaded = ", ".join(self._adapters) or "none"
            raise UserError(f"There is no adapter {name!r}; loaded: {loaded}.")
        return self._adapters[name]

    @property
    def adaptations(self) -> tuple[Adaptation, ...]:
        """The emotional adaptation that is the model's own, then those of loaded adapters, in the order of `emotions`.

        A snapshot: loading and unloading do not change it.
        """
        emotions = tuple(self.emotion_mapper.config.emotions)
        own = Adaptation(emotions, self.emotion_mapper, self.a2et, self.edn, self.repos_net)
        return (own, *(adapter.adapt(self) for adapter in self._adapters.values()))

    def to(self, *args, **kwargs) -> "EATPipeline":
        """`DiffusionPipeline.to`, adapters included; a dtype is the renderer's alone.

        RePos-Net is nearly all of the work, and its frames look the same in bfloat16 and float16. What decides where
        keypoints are stays in float32, for they do not survive less.
        """
        dtypes = [kwargs.pop("dtype", None), *(given for given in args if isinstance(given, torch.dtype))]
        super().to(*(given for given in args if not isinstance(given, torch.dtype)), **kwargs)
        for dtype in filter(None, dtypes):
            if dtype != self.repos_net.dtype:
                self.before_rounding = digest_of(self, "repos_net") | self.before_rounding
                torch.nn.Module.to(self.repos_net, dtype)  # diffusers' own warns of parts to keep in float32: []
        for adapter in self._adapters.values():
            for part in adapter.parts.values():
                part.to(self.device)
        return self

    def compile(self, **options: Any) -> "EATPipeline":
        """Have `torch.compile` make the renderer faster, in place; frames are the same but for rounding.

        The first frames then take a minute or more, so that it pays for many clips or long ones, and where operations
        between convolutions cost much, as on GPUs. On a CPU it needs a C++ compiler. What is loaded and saved does not
        change; `to` a precision comes before.

        Args:
            options: as for `torch.compile`.
        """
        # what runs once a frame, without data-dependent sizes within; copies that carry adapters share these
        for module in (self.repos_net.dense_motion, self.repos_net.flatten, self.repos_net.decoder):
            module.compile(**options)
        return self

    # Words -----------------------------------------------------------------------------------------------------------

    @property
    def words(self) -> EmotionWords | None:
        """What turns sentences into emotions at once, read on first use; None if this model came without."""
        with _LOADING:
            if not self._words:
                folder = find_words(self)
                self._words.append(None if folder is None else EmotionWords.load(folder, self))
            return self._words[0]

    def text_adapter(self, text: str | Sequence[str], name: str) -> EmotionAdapter:
        """A sentence, or several phrasings of one wish, as an emotion: at once, without training.

        Raises:
            UserError: the text is empty or too long, or this model came without words.
        """
        words = self.words
        if words is None:
            raise UserError(
                "This model came without a text mapper, so words are nothing to it; use learn_emotion, which tunes an "
                "adapter with CLIP, or a model that has a `words` folder, such as the bundled one."
            )
        return words.adapter(text, name)

    def learn_emotion(
        self,
        text: str | Sequence[str],
        image: ImageInput,
        audio: AudioInput,
        name: str,
        *,
        clip: str | Clip | None = None,
        sync_expert: str | SyncExpert | None = None,
        options: LearningOptions | None = None,
        head_motion: HeadMotionInput = "natural",
        generator: torch.Generator | int | None = None,
        watch: Callable[[LearningStep], bool | None] | None = None,
    ) -> EmotionAdapter:
        """Learn an emotion from a sentence with CLIP (paper section 4.5), and load it as an adapter.

        Where the model has words of its own, that is where it starts from.

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
        if name in self.emotions or name in self.adapters:
            raise UserError(f"There is an emotion {name!r} already; give this one another name.")
        words = self.words
        judge = find_clip(clip, words, self.device)
        judge.embed_text(text)  # a mistake in it shall be known before anything is read
        start = EmotionAdapter.create(self, [name], "neutral") if words is None else words.adapter(text, name)
        if isinstance(sync_expert, str):
            sync_expert = load_sync_expert(sync_expert, self.device)
        elif sync_expert is None and words is not None:
            sync_expert = words.sync_expert
        if isinstance(generator, int):
            generator = torch.Generator().manual_seed(generator)
        with explain_memory("Tuning needs about 3 GB beside what CLIP takes; a smaller CLIP needs less."):
            adapter = learn_emotion(
                self,
                text,
                image,
                audio,
                name,
                judge,
                start,
                options or LearningOptions(),
                head_motion,
                generator,
                watch,
                sync_expert,
            )
        self.add_adapter(adapter)
        return adapter

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
    ) -> EATPipelineOutput:
        """Generate a whole clip.

        Args:
            image: path, PIL picture or uint8 RGB array with a face in it.
            audio: path of anything FFmpeg reads, or (samples, sampling_rate).
            emotion: one of `emotions`; weights {"happy": 0.7, "surprised": 0.3}; or a timeline
                [(0.0, "neutral"), (1.5, "happy")] in seconds, cross-faded. None is the talking head before emotional
                adaptation (stage 1 of the paper): no prompts, no EDN, no EAM.
            intensity: 0 neutral, 1 as trained, up to 1.5 exaggerated; a number or a timeline [(seconds, value)].
            head_motion: "natural", "still", the path of a driving video or of a saved `HeadMotion` (.safetensors), or
                a `HeadMotion`.
            generator: a `torch.Generator`, or its seed; the same seed gives the same frames.
            output_type: "np", "pil" or "pt".
            batch_size: frames computed at a time: memory and speed, no difference in the frames.
            face: which face to animate, counted from 0 in order of prominence, or one that `detect_faces` found; None
                is the most prominent, with a warning if there are several.
            paste_back: put the animated face back into the whole picture (at most 1920 pixels long).
            align: find the face and bring it to where the network expects it; False takes a picture (and a driving
                video) of 256 x 256 as it is, for data that was cropped before.
            emotion_text: the emotion in words, such as "slightly smiling with raised eyebrows", or several phrasings
                of one wish; in place of `emotion`, for models with `words`.

        Returns:
            `EATPipelineOutput`; as many frames as the recording's length needs.

        Raises:
            UserError: something about the input, in one sentence.
        """
        if output_type not in ("np", "pil", "pt"):
            raise ValueError(f"output_type must be 'np', 'pil' or 'pt', not {output_type!r}.")
        recording = read_audio(audio)
        chunks = self.stream(
            image,
            recording,
            emotion,
            intensity,
            head_motion,
            generator,
            batch_size,
            face,
            paste_back,
            align,
            emotion_text,
        )
        made = np.concatenate(list(chunks))
        frames: np.ndarray | list[Image.Image] | Tensor = made
        if output_type == "pil":
            frames = [Image.fromarray(frame) for frame in made]
        elif output_type == "pt":
            frames = torch.from_numpy(made).permute(0, 3, 1, 2).float() / 255
        return EATPipelineOutput(frames=frames, fps=FPS, audio=recording.samples, sampling_rate=recording.sampling_rate)

    def stream(
        self,
        image: ImageInput,
        audio: AudioInput,
        emotion: Emotion | None = "neutral",
        intensity: Intensity = 1.0,
        head_motion: HeadMotionInput = "natural",
        generator: torch.Generator | int | None = None,
        batch_size: int = 8,
        face: int | Face | None = None,
        paste_back: bool = False,
        align: bool = True,
        emotion_text: str | Sequence[str] | None = None,
    ) -> Iterator[np.ndarray]:
        """The same frames as `__call__`, in chunks (n, H, W, 3) uint8, n up to `batch_size`, as they are made.

        The input is checked, and the whole recording heard, before the iterator is returned. Only
        `driving_centring="clip"` has to know the expression of the last frame before it shows the first.
        """
        performance = self.perform(
            image, audio, emotion, intensity, head_motion, generator, batch_size, face, align, emotion_text
        )
        # 7. Render, as the frames are asked for
        return self.render_performance(performance, batch_size, paste_back)

    def perform(
        self,
        image: ImageInput,
        audio: AudioInput,
        emotion: Emotion | None = "neutral",
        intensity: Intensity = 1.0,
        head_motion: HeadMotionInput = "natural",
        generator: torch.Generator | int | None = None,
        batch_size: int = 8,
        face: int | Face | None = None,
        align: bool = True,
        emotion_text: str | Sequence[str] | None = None,
    ) -> Performance:
        """All of a clip but its pictures; arguments and errors as of `__call__`.

        `render_performance` makes the frames, or a few of them (`Performance.only`) for a quick look.
        """
        # 1. Check the input
        self.check_inputs(batch_size, head_motion)
        adaptations = self.adaptations  # as of now, whatever other threads load and unload
        if emotion_text is not None:
            if emotion not in ("neutral", None):
                raise UserError("Give either emotion or emotion_text, not both.")
            emotion = IN_WORDS
            adaptations = (adaptations[0], self.text_adapter(emotion_text, IN_WORDS).adapt(self))
        known = [name for adaptation in adaptations for name in adaptation.emotions]
        track = None if emotion is None else EmotionTrack.create(emotion, intensity, known)
        if isinstance(generator, int):
            generator = torch.Generator().manual_seed(generator)
        recording = read_audio(audio)

        # 2. Read the portrait, 3. the speech, 4. the emotions
        portrait = self.prepare_portrait(image, face, align)
        speech = self.encode_audio(recording)
        recording.forget()
        prompts = weights = guidance = None
        if track is None:
            adaptations = adaptations[:1]
        else:
            frames = recording.num_frames
            # what does not show takes no part: a clip is the same whatever else is loaded
            adaptations = tuple(a for a in adaptations if track.weights(frames, a.emotions).any())
            emotions = [name for adaptation in adaptations for name in adaptation.emotions]
            prompts = self.draw_prompts(generator, adaptations)
            weights = torch.from_numpy(track.weights(frames, emotions)).to(prompts)
            guidance = self.mix_guidance(prompts, weights, adaptations)

        # 5. Move the head
        motion = self.prepare_motion(head_motion, recording.num_frames, speech.energy, generator, align)
        pose = self.pose_head(portrait, motion)

        # 6. Move the face, where and when its frames are asked for
        blinks = self.shut_eyes(portrait, motion)

        def express(index: Tensor) -> Tensor:
            expression = self.predict_expression(
                portrait, speech, pose, prompts, weights, batch_size, adaptations, index
            )
            return expression + (blinks[index] if blinks.dim() else blinks)

        everything = torch.arange(recording.num_frames, device=self._execution_device)
        if self.config.driving_centring == "clip":  # where a frame goes depends on all others
            pieces = self.progress_bar(everything.split(_ahead(batch_size)))
            driving = self.drive_keypoints(portrait, pose, torch.cat([express(index) for index in pieces]))
            return Performance(portrait, lambda index: driving[:, index], everything, guidance, adaptations)

        def drive(index: Tensor) -> Tensor:
            return self.drive_keypoints(portrait, pose.of(index), express(index))

        return Performance(portrait, drive, everything, guidance, adaptations)

    def render_performance(
        self, performance: Performance, batch_size: int = 8, paste_back: bool = False
    ) -> Iterator[np.ndarray]:
        """Frames of a performance, in chunks (n, H, W, 3) uint8, as they are made."""
        pieces = performance.pieces(batch_size, _ahead(batch_size))  # whoever watches a stream waits for the first
        seen, adaptations = performance.portrait, performance.adaptations
        yield from self._render_pieces(seen, pieces, len(performance), batch_size, paste_back, adaptations)

    def check_inputs(self, batch_size: int, head_motion: HeadMotionInput) -> None:
        """Raise on arguments that can be judged without any work."""
        if not isinstance(batch_size, int) or batch_size < 1:
            raise UserError(f"batch_size must be a whole number from 1 up, not {batch_size!r}.")
        if not isinstance(head_motion, str | os.PathLike | HeadMotion):
            raise UserError(
                f"head_motion must be 'natural', 'still', a path or a HeadMotion, not {type(head_motion).__name__}."
            )

    # Steps -----------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare_portrait(self, image: ImageInput, face: int | Face | None = None, align: bool = True) -> Portrait:
        """Find the face, align it (unless told not to), and read its keypoints, pose and expression."""
        picture = read_image(image)
        if align:
            chosen = face if isinstance(face, Face) else choose_face(detect_faces(picture), face)
            aligned = align_portrait(picture, chosen, self.config.template_landmarks)
        else:
            aligned = AlignedPortrait(_checked_size(picture, "the portrait"), np.eye(2, 3))
        pixel_values = self._pixel_values(aligned.crop[None])
        detected = self.keypoint_detector(pixel_values)
        estimate = self.motion_estimator(pixel_values)
        yaw, pitch, roll = kp.degrees_from_logits(estimate.yaw, estimate.pitch, estimate.roll)
        canonical, keypoints = kp.canonical_and_posed(
            detected.keypoints,
            kp.rotation_from_degrees(yaw, pitch, roll),
            estimate.translation,
            estimate.expression,
            self.config.expression_frame,
            self.config.keypoint_space,
        )
        return Portrait(
            picture=picture,
            crop=aligned.crop,
            matrix=aligned.matrix,
            features=self.repos_net.encode(pixel_values),
            canonical=canonical,
            keypoints=keypoints,
            prediction_map=detected.prediction_map,
            yaw=yaw,
            pitch=pitch,
            roll=roll,
            translation=estimate.translation,
            expression=estimate.expression,
        )

    @torch.no_grad()
    def encode_audio(self, recording: Recording) -> Speech:
        """What is said and how it sounds, for every frame of the recording."""
        if self.speech_encoder is None:
            raise UserError("This model has no speech encoder; convert the release again with --deepspeech GRAPH.pb.")
        frames = recording.num_frames
        waveform = torch.from_numpy(recording.waveform)
        semantic = self.speech_encoder(waveform[None].to(self._execution_device))[0, :frames]
        mel = _fit_length(log_mel(waveform), frames).to(semantic)
        return Speech(semantic=semantic, mel=mel, energy=loudness(waveform, frames))

    # In the following steps, `adaptations` are those whose emotions prompts and weights are of; None: the model's own.

    @torch.no_grad()
    def draw_prompts(
        self, generator: torch.Generator | None = None, adaptations: Sequence[Adaptation] | None = None
    ) -> Tensor:
        """Prompts of all emotions (emotions, prompts, width).

        Noise is drawn for all of the model's own, in their order, so that an emotion looks the same alone and in a
        mixture. Adapters' emotions share that noise, so that nothing else depends on what is loaded.
        """
        count = len(self.emotion_mapper.config.emotions)
        device = generator.device if generator is not None else "cpu"
        latent = torch.randn(count, self.emotion_mapper.config.latent, generator=generator, device=device)
        latent = latent.to(self._execution_device)
        prompts = []
        for adaptation in adaptations or self.adaptations[:1]:
            ids = torch.arange(len(adaptation.emotions), device=latent.device)
            prompts.append(adaptation.emotion_mapper(latent[ids % count], ids).prompts)
        return torch.cat(prompts)

    def prepare_motion(
        self,
        head_motion: HeadMotionInput,
        frames: int,
        energy: Tensor,
        generator: torch.Generator | None = None,
        align: bool = True,
    ) -> HeadMotion:
        """Head motion of `frames` frames, whatever form it was given in."""
        if isinstance(head_motion, str) and head_motion == "natural":
            return HeadMotion.natural(frames, energy, generator)
        if isinstance(head_motion, str) and head_motion == "still":
            return HeadMotion.still(frames)
        if not isinstance(head_motion, HeadMotion):
            path = os.fspath(head_motion)
            is_saved = path.endswith(".safetensors")
            head_motion = HeadMotion.load(path) if is_saved else self.motion_from_video(path, frames, align=align)
        return head_motion.resampled(frames)

    @torch.no_grad()
    def motion_from_video(
        self,
        path: str | os.PathLike,
        max_frames: int | None = None,
        face: int | None = None,
        batch_size: int = 16,
        align: bool = True,
    ) -> HeadMotion:
        """Head motion of a driving video, relative to its first frame.

        Args:
            align: cut out the square around the first frame's face; False takes frames of 256 x 256 as they are.

        Raises:
            UserError: the video cannot be read, shows no face in its first two seconds, or has another size than 256.
        """
        frames = read_video(path, max_frames)
        if align:
            searched, found = [], None
            for frame in frames:
                searched.append(frame)
                faces = detect_faces(frame)
                if faces:
                    found = choose_face(faces, face)
                    break
                if len(searched) == LONGEST_SEARCH:
                    break
            if found is None:
                raise UserError(f"No face was found in the first two seconds of the driving video {path}.")
            crops = crop_driving_video(_chain(searched, frames), found, self.config.driving_crop_scale)
        else:
            crops = (_checked_size(frame, f"the driving video {path}") for frame in frames)
        estimates = []
        for batch in _batches(self.progress_bar(crops), batch_size):
            estimate = self.motion_estimator(self._pixel_values(np.stack(batch)))
            angles = kp.degrees_from_logits(estimate.yaw, estimate.pitch, estimate.roll)
            estimates.append([*(angle.cpu() for angle in angles), estimate.translation.cpu()])
        yaw, pitch, roll, translation = (torch.cat(parts) for parts in zip(*estimates, strict=True))
        motion = HeadMotion(yaw, pitch, roll, translation, relative=False)
        return motion.smoothed(DRIVING_SMOOTHING).relative_to_start()

    def pose_head(self, portrait: Portrait, motion: HeadMotion) -> HeadPose:
        """The pose of every frame: the portrait's own with the motion added, or the motion's."""
        parts = {}
        for name in ("yaw", "pitch", "roll", "translation"):
            values = getattr(motion, name).to(portrait.yaw)
            parts[name] = values + getattr(portrait, name) if motion.relative else values
        return HeadPose(**parts)

    def read_speech(
        self, speech: Speech, pose: HeadPose, batch_size: int = 8, index: Tensor | None = None
    ) -> SpeechWindows:
        """What A2ET reads around frames of some numbers (n,), or all; the same for all emotions."""
        a2et = self.a2et
        window, frames = a2et.config.window, len(speech.mel)
        index = torch.arange(frames, device=speech.mel.device) if index is None else index
        offsets = torch.arange(window, device=index.device)
        # tokens once for each frame, and for those thought around the clip
        needed, places = (index[:, None] + offsets).unique(return_inverse=True)
        frame = needed - window // 2
        inside = frame.clamp(0, frames - 1)
        outside = (frame != inside)[:, None]
        said = speech.semantic[inside.clamp(max=len(speech.semantic) - 1)]
        semantic = torch.where(outside[:, None], a2et.semantic_padding, said)
        mel = torch.where(outside, a2et.mel_padding, speech.mel[inside])
        near = pose.of(inside)
        rotation = kp.pose_picture_rotation(*(kp.logits_from_degrees(angle) for angle in near.angles))
        tokens = torch.cat(
            [
                a2et.encode_speech(semantic[part], pose_pictures(rotation[part], near.translation[part]))
                for part in torch.arange(len(needed), device=index.device).split(8 * batch_size)
            ]
        )
        own = pose.of(index)
        angles = [kp.logits_from_degrees(angle) for angle in own.angles]
        return SpeechWindows(
            speech=tokens[places],
            mel=mel[places],
            head_pose=a2et.head_pose_token(*angles, own.translation),
        )

    def emotional_deformation(
        self, portrait: Portrait, adaptation: Adaptation, prompt: Tensor | None
    ) -> tuple[Tensor, Tensor | float]:
        """What an emotion does to all frames: A2ET's face features, and EDN's part of E', (1, 3K), for prompts
        (1, prompts, width) or None."""
        face = adaptation.a2et.face_features(portrait.prediction_map, None if prompt is None else prompt[:, 0])
        return face, 0.0 if prompt is None else adaptation.edn(face, prompt).expression

    def speech_deformation(
        self, windows: SpeechWindows, index: Tensor, adaptation: Adaptation, face: Tensor, prompt: Tensor | None
    ) -> Tensor:
        """A2ET's part of E' of some frames, (n, 3K); `face` and `prompt` as in `emotional_deformation`."""
        a2et, count = adaptation.a2et, len(index)
        guidance = None if prompt is None else prompt[:, 0].expand(count, -1)
        acoustic = a2et.acoustic_tokens(windows.mel[index], face.expand(count, -1, -1, -1), guidance)
        deep = None if prompt is None else prompt[:, 1:].expand(count, -1, -1)
        return self.expression_basis(a2et.predict(windows.speech[index], acoustic, windows.head_pose[index], deep))

    @torch.no_grad()
    def predict_expression(
        self,
        portrait: Portrait,
        speech: Speech,
        pose: HeadPose,
        prompts: Tensor | None,
        weights: Tensor | None,
        batch_size: int = 8,
        adaptations: Sequence[Adaptation] | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        """E' of frames of some numbers (n,), or of all: (n, 3K). A2ET and EDN for each emotion that shows, mixed by
        weights (F, emotions).

        Without prompts, A2ET alone, as it was before emotional adaptation.
        """
        owners = [adaptation for adaptation in adaptations or self.adaptations[:1] for _ in adaptation.emotions]
        index = torch.arange(len(speech.mel), device=speech.mel.device) if index is None else index
        windows = self.read_speech(speech, pose, batch_size, index)
        expression = speech.mel.new_zeros(len(index), 3 * portrait.canonical.shape[1])
        shares = speech.mel.new_ones(len(index), 1) if weights is None else weights[index]
        for emotion in (shares != 0).any(0).nonzero()[:, 0]:
            prompt = None if prompts is None else prompts[emotion, None]
            face, emotional = self.emotional_deformation(portrait, owners[emotion], prompt)
            parts = shares[:, emotion].nonzero()[:, 0].split(batch_size)
            for part in parts:
                spoken = self.speech_deformation(windows, part, owners[emotion], face, prompt)
                expression[part] += shares[part, emotion, None] * (spoken + emotional)
        return self.scale_expression(portrait, expression)

    def scale_expression(self, portrait: Portrait, deformation: Tensor) -> Tensor:
        """A2ET's and EDN's outputs (n, 3K), which are in units of V ** p, as E' of a portrait."""
        return deformation * kp.hull_volume(portrait.canonical) ** self.config.hull_volume_exponent

    def shut_eyes(self, portrait: Portrait, motion: HeadMotion) -> Tensor:
        """What blinks add to E' of every frame: (F, 3K), or 0 if the model does not blink."""
        if self.config.blink_deformation is None:
            return portrait.canonical.new_zeros(())
        shut = portrait.canonical.new_tensor(self.config.blink_deformation)
        return self.scale_expression(portrait, motion.blink.to(shut)[:, None] * shut)

    def drive_keypoints(self, portrait: Portrait, pose: HeadPose, expression: Tensor) -> Tensor:
        """K_d (1, F, K, 3) of Eq. 1. With `driving_centring="clip"` the frames must be all of a clip."""
        rotation = kp.rotation_from_degrees(*pose.angles)
        driving = kp.compose_keypoints(
            portrait.canonical, rotation, pose.translation, expression, self.config.expression_frame
        )[None]
        return kp.centre_on_source(driving, portrait.keypoints) if self.config.driving_centring == "clip" else driving

    def mix_guidance(self, prompts: Tensor, weights: Tensor, adaptations: Sequence[Adaptation] | None = None) -> Tensor:
        """Guidance embedding e of the renderer: (1, width), or (1, F, width) if the emotion changes.

        Embeddings of several adaptations do not mean the same, so each has a mean of its own: then the last axis holds
        the share of each in the frame and its e, one after the other, as `MixedEAM` reads them.
        """
        embeddings = prompts[:, 0]
        if adaptations is None or len(adaptations) == 1:
            mixed = weights @ embeddings
        else:
            sizes = [len(adaptation.emotions) for adaptation in adaptations]
            parts = []
            for own, share_of_each in zip(embeddings.split(sizes), weights.split(sizes, 1), strict=True):
                share = share_of_each.sum(1, keepdim=True)
                parts += [share, share_of_each @ own / torch.where(share == 0, 1, share)]
            mixed = torch.cat(parts, 1)
        return mixed[:1] if bool((weights == weights[:1]).all()) else mixed[None]

    def render(
        self,
        portrait: Portrait,
        driving: Tensor,
        guidance: Tensor | None,
        batch_size: int = 8,
        paste_back: bool = False,
        adaptations: Sequence[Adaptation] | None = None,
    ) -> Iterator[np.ndarray]:
        """Frames of driving keypoints (1, F, K, 3), in chunks (n, H, W, 3) uint8."""
        pieces = iter([(driving, guidance)])
        return self._render_pieces(portrait, pieces, driving.shape[1], batch_size, paste_back, adaptations)

    def _render_pieces(
        self,
        portrait: Portrait,
        pieces: Iterator[tuple[Tensor, Tensor | None]],
        total: int,
        batch_size: int,
        paste_back: bool,
        adaptations: Sequence[Adaptation] | None,
    ) -> Iterator[np.ndarray]:
        if adaptations is None or len(adaptations) == 1:
            repos_net = adaptations[0].repos_net if adaptations else self.repos_net
        else:
            mixed = MixedEAM([adaptation.repos_net.volume_eam for adaptation in adaptations])
            repos_net = graft(self.repos_net, {"volume_eam": mixed})
        paste = PasteBack(portrait.picture, portrait.matrix) if paste_back else None
        with self.progress_bar(total=total) as progress:
            progress.set_description("frames")
            for driving, guidance in pieces:
                for start in range(0, driving.shape[1], batch_size):
                    part = slice(start, start + batch_size)
                    e = guidance[:, part] if guidance is not None and guidance.dim() == 3 else guidance
                    with torch.no_grad(), explain_memory("Ask for a smaller batch_size."):
                        rendered = repos_net.render(portrait.features, portrait.keypoints, driving[:, part], e)
                    frames = to_uint8(rendered.frames[0])
                    if paste is not None:
                        frames = np.stack([paste(frame) for frame in frames])
                    progress.update(len(frames))
                    yield frames

    def _pixel_values(self, pictures: np.ndarray) -> Tensor:
        """(N, 256, 256, 3) uint8 -> (N, 3, 256, 256) float32 in [0, 1] on the pipeline's device."""
        return torch.from_numpy(pictures).to(self._execution_device).permute(0, 3, 1, 2).float() / 255


def _ahead(batch_size: int) -> int:
    """Frames whose expression is computed at a time: many, for every frame is heard in the windows of ten others."""
    return batch_size * math.ceil(AHEAD / batch_size)


def _checked_size(picture: np.ndarray, what: str) -> np.ndarray:
    height, width = picture.shape[:2]
    if (height, width) != (SIZE, SIZE):
        raise UserError(f"With align=False {what} must be {SIZE} x {SIZE} pixels, not {width} x {height}.")
    return picture


def _fit_length(rows: Tensor, length: int) -> Tensor:
    """Cut (N, ...) to `length` rows, or repeat the last one."""
    missing = length - len(rows)
    return rows[:length] if missing <= 0 else torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])


def _chain(first: list, rest: Iterator) -> Iterator:
    yield from first
    yield from rest


def _batches(items: Iterator, size: int) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
