"""Emotions from words (paper sections 3.2 and 4.5).

A sentence becomes an emotion in two ways, which meet. `EmotionWords.adapter` maps its CLIP embedding straight to
prompts, at once. `learn_emotion` tunes a head of M and the EAMs until CLIP finds that the frames look like the
sentence, as published; it starts from the first where a model has it. Both give an ordinary `EmotionAdapter`.

A model's `words` folder holds what the first needs:

    clip/          CLIPModel and CLIPProcessor of transformers
    text_mapper/   TextMapper
    adapter/       EDN and EAMs that show whatever prompts the mapper makes, on top of the model
    sync_expert/   SyncExpert, for tuning; may be missing
"""

import copy
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .adapters import EmotionAdapter
from .audio import sync_mel
from .errors import InputWarning, UserError
from .faces import DEFAULT_TEMPLATE
from .hub import RepositoryError, explained, fetch_folder
from .media import FPS, read_audio
from .models.sync_expert import SyncExpert
from .models.text_mapper import TextMapper
from .sync_loss import WINDOW, SyncLoss, crop_faces, expert_boxes, mel_input, mel_window

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase

    from .performance import AudioInput, HeadMotionInput, ImageInput
    from .pipeline import EATPipeline

FOLDER = "words"  # of a model
DEFAULT_CLIP = "openai/clip-vit-large-patch14"
LOOK_EVERY, LOOKED_AT = 5, 4  # steps between looks at so many frames, spread over the clip


# CLIP -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clip:
    """A CLIP with what prepares its inputs.

    Attributes:
        name: where it came from.
        model: frozen.
        tokenizer: of sentences.
        preprocessing: of pictures, as preprocessor_config.json has it.
    """

    name: str
    model: "CLIPModel"
    tokenizer: "PreTrainedTokenizerBase"
    preprocessing: dict[str, Any]

    @classmethod
    def load(cls, path_or_id: str, device: torch.device | str = "cpu", **options: Any) -> "Clip":
        """Read a CLIPModel of transformers: a folder, or a repository of the Hub; safetensors only.

        Raises:
            RepositoryError: there is none, or it cannot be had.
        """
        # they take seconds, which only those shall wait who use words
        from transformers import AutoTokenizer, CLIPModel
        from transformers.image_processing_base import ImageProcessingMixin

        with explained(path_or_id):
            model = CLIPModel.from_pretrained(path_or_id, use_safetensors=True, **options)
            tokenizer = AutoTokenizer.from_pretrained(path_or_id, **options)
            preprocessing, _ = ImageProcessingMixin.get_image_processor_dict(path_or_id, **options)
        return cls(path_or_id, model.float().to(device).eval().requires_grad_(False), tokenizer, preprocessing)

    def save(self, folder: Path) -> None:
        """Write a folder that `load`, and transformers, read."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(self.preprocessing, indent=2) + "\n")

    def embed_text(self, texts: str | Sequence[str]) -> Tensor:
        """A wish as a unit vector (1, D): the mean of its phrasings.

        Raises:
            UserError: there is no text, or one is longer than CLIP reads.
        """
        phrasings = [texts] if isinstance(texts, str) else list(texts)
        if not phrasings or not all(isinstance(text, str) and text.strip() for text in phrasings):
            raise UserError("The text is empty; describe the expression, such as 'She is talking while crying hard.'")
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(phrasings, padding=True, return_tensors="pt").to(self.model.device)
        if tokens.input_ids.shape[1] > longest:
            raise UserError(
                f"The text has {tokens.input_ids.shape[1]} tokens, and CLIP reads {longest} at most; make it shorter."
            )
        with torch.no_grad():
            found = self.embed_tokens(tokens)
        return F.normalize(found.mean(0, keepdim=True), dim=-1)

    def embed_tokens(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """input_ids and attention_mask (N, L) -> unit vectors (N, D)."""
        return F.normalize(_features(self.model.get_text_features(**tokens)), dim=-1)

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> unit vectors (N, D), differentiably."""
        values = to_clip_pixels(pictures.float(), self.preprocessing)
        return F.normalize(_features(self.model.get_image_features(values)), dim=-1)


def to_clip_pixels(pictures: Tensor, preprocessing: dict[str, Any]) -> Tensor:
    """What a CLIP's image processor does, differentiably: (N, 3, H, W) in [0, 1] -> (N, 3, side, side).

    Args:
        preprocessing: size, crop_size, image_mean and image_std of preprocessor_config.json.
    """
    shortest = min(pictures.shape[-2:])
    edge, crop = preprocessing["size"], preprocessing["crop_size"]  # old files have numbers
    wanted = edge["shortest_edge"] if isinstance(edge, dict) else edge
    crop = crop if isinstance(crop, dict) else {"height": crop, "width": crop}
    size = [round(length * wanted / shortest) for length in pictures.shape[-2:]]
    x = pictures
    if size != list(pictures.shape[-2:]):
        # bicubic interpolation overshoots, which 8-bit pictures would cut off
        x = F.interpolate(pictures, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((length - crop[side]) // 2 for length, side in zip(size, ("height", "width"), strict=True))
    x = x[..., top : top + crop["height"], left : left + crop["width"]]
    mean, std = (x.new_tensor(preprocessing[name])[:, None, None] for name in ("image_mean", "image_std"))
    return (x - mean) / std


def _features(out: Any) -> Tensor:
    """transformers 5 returns an object, 4 the tensor."""
    return getattr(out, "pooler_output", out)


# At once --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EmotionWords:
    """What turns sentences into emotions at once.

    Attributes:
        clip: whose text embeddings the mapper reads.
        mapper: to prompts.
        shows: an adapter whose EDN and EAMs show them; its head of M is not used.
        sync_expert: of the sync loss, if there is one.
    """

    clip: Clip
    mapper: TextMapper
    shows: EmotionAdapter
    sync_expert: SyncExpert | None = None

    @classmethod
    def load(cls, folder: Path, pipeline: "EATPipeline") -> "EmotionWords":
        """Read a `words` folder.

        Raises:
            UserError: it is incomplete, or was made for another model.
        """
        shows = EmotionAdapter.load(folder / "adapter", pipeline)
        for part in shows.parts.values():
            part.to(pipeline.device).float().eval()
        with explained(folder):
            mapper = TextMapper.from_pretrained(folder / "text_mapper", use_safetensors=True)
        clip = replace(Clip.load(str(folder / "clip"), pipeline.device), name="the model's own")
        expert = folder / "sync_expert"
        sync_expert = load_sync_expert(expert, pipeline.device) if expert.is_dir() else None
        return cls(clip, mapper.float().to(pipeline.device).eval(), shows, sync_expert)

    def save(self, folder: Path) -> None:
        """Write a `words` folder."""
        self.clip.save(folder / "clip")
        self.mapper.save_pretrained(folder / "text_mapper")
        self.shows.save(folder / "adapter")
        if self.sync_expert is not None:
            self.sync_expert.save_pretrained(folder / "sync_expert")

    @torch.no_grad()
    def adapter(self, texts: str | Sequence[str], name: str) -> EmotionAdapter:
        """A sentence, or several phrasings of one wish, as an emotion `name`.

        It shares EDN and EAMs with all others that are made here.
        """
        prompts = self.mapper(self.clip.embed_text(texts)).prompts[0]
        head = constant_head(cast(nn.ModuleList, self.shows.parts["emotion_mapper.heads"])[0], prompts)
        config = replace(self.shows.config, emotions=(name,), training={"text": _listed(texts)})
        return EmotionAdapter(config, {**self.shows.parts, "emotion_mapper.heads": nn.ModuleList([head])})


def constant_head(head: nn.Module, prompts: Tensor) -> nn.Module:
    """A head of M that makes the same prompts (prompts, width) of every noise; it can be trained from there."""
    head = copy.deepcopy(head)
    last = cast(nn.Linear, cast(nn.ModuleList, head)[-1])
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(prompts.flatten())
    return head


def find_words(pipeline: "EATPipeline") -> Path | None:
    """The `words` folder of where a pipeline was loaded from, or None if it has none."""
    place = pipeline.name_or_path
    if not place:
        return None
    try:
        folder = fetch_folder(place, ["*.json", "*.txt", "*.safetensors"], subfolder=FOLDER)
    except RepositoryError:
        return None
    return folder if (folder / "text_mapper").is_dir() else None


def find_clip(clip: "str | Clip | None", words: EmotionWords | None, device: torch.device | str = "cpu") -> Clip:
    """The CLIP that judges frames: the one that was asked for; else that of the paper, which a model with words of its
    own looks for in the cache alone, and which its own small one replaces with a warning.

    Raises:
        RepositoryError: there is none.
    """
    if isinstance(clip, Clip):
        return clip
    if clip is not None or words is None:
        return Clip.load(clip or DEFAULT_CLIP, device)
    try:
        return Clip.load(DEFAULT_CLIP, device, local_files_only=True)
    except RepositoryError:
        warnings.warn(
            f"The model's own small CLIP judges, which knows plain words for faces only. {DEFAULT_CLIP} knows more: "
            f"ask for it with clip={DEFAULT_CLIP!r} (1.7 GB), once.",
            InputWarning,
            stacklevel=3,
        )
        return words.clip


def load_sync_expert(path_or_id: str | Path, device: torch.device | str = "cpu") -> SyncExpert:
    """Read the expert of the sync loss: a folder, or a repository of the Hub; safetensors only.

    Raises:
        RepositoryError: there is none, or it cannot be had.
    """
    with explained(path_or_id):
        return SyncExpert.from_pretrained(path_or_id, use_safetensors=True).float().to(device).eval()


def _listed(texts: str | Sequence[str]) -> str:
    return texts if isinstance(texts, str) else " / ".join(texts)


# By tuning ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LearningStep:
    """Where `learn_emotion` has got to.

    Attributes:
        step, steps: done, and at most.
        looked: the step of the last look at the result; below, what was seen then.
        similarity: mean cosine of CLIP between the looked-at frames and the text.
        best: the highest so far.
        preview: (256, 256, 3) uint8, one of these frames.
    """

    step: int
    steps: int
    looked: int
    similarity: float
    best: float
    preview: np.ndarray


@dataclass
class LearningOptions:
    """How `learn_emotion` tunes.

    Attributes:
        steps: at most.
        learning_rate: of Adam, as published.
        clip_weight: of 1 - cosine between frames and text.
        latent_weight: of the squared distance, in units of half the frame, of keypoints to where they are without
            emotion; it keeps lips on the words.
        sync_weight: of Eq. 7, where there is a sync expert.
        seconds: of the recording that are used.
    """

    steps: int = 40
    learning_rate: float = 2e-4
    clip_weight: float = 100.0
    latent_weight: float = 10.0
    sync_weight: float = 10.0
    seconds: float = 4.0


def learn_emotion(
    pipeline: "EATPipeline",
    texts: str | Sequence[str],
    image: "ImageInput",
    audio: "AudioInput",
    name: str,
    clip: Clip,
    start: EmotionAdapter,
    options: LearningOptions,
    head_motion: "HeadMotionInput" = "natural",
    generator: torch.Generator | None = None,
    watch: Callable[[LearningStep], bool | None] | None = None,
    sync_expert: SyncExpert | None = None,
) -> EmotionAdapter:
    """Tune `start`, a one-emotion adapter, until the portrait's frames look like the text to CLIP.

    Everything but its head of M and its EAMs is frozen. Nothing of the pipeline changes.

    Args:
        texts: a sentence, or several phrasings of one wish, whose embeddings are averaged.
        image, audio: portrait and neutral recording to talk with.
        watch: called after every step; if it returns False, tuning stops.
        sync_expert: of the sync loss; None leaves that out.

    Returns:
        The adapter at its best similarity, which may be that of the start.

    Raises:
        UserError: the text, portrait or recording cannot be used.
    """
    wanted = clip.embed_text(texts)
    recording = read_audio(audio)
    with torch.no_grad():
        portrait = pipeline.prepare_portrait(image)
        speech = pipeline.encode_audio(recording)
        motion = pipeline.prepare_motion(head_motion, recording.num_frames, speech.energy, generator)
        pose = pipeline.pose_head(portrait, motion)
        windows = pipeline.read_speech(speech, pose)
    frames = min(recording.num_frames, round(options.seconds * FPS))

    adapter = EmotionAdapter(
        replace(start.config, emotions=(name,)), {part: copy.deepcopy(module) for part, module in start.parts.items()}
    )
    for module in pipeline.components.values():
        if isinstance(module, nn.Module):
            module.requires_grad_(False)
    for part, module in adapter.parts.items():
        module.eval().requires_grad_(part != "edn")
    learning = [p for module in adapter.parts.values() for p in module.parameters() if p.requires_grad]
    adaptation, without = adapter.adapt(pipeline), pipeline.adaptations[0]
    latent_size = pipeline.emotion_mapper.config.latent

    def keypoints(index: Tensor, prompt: Tensor | None) -> Tensor:
        own = without if prompt is None else adaptation
        face, emotional = pipeline.emotional_deformation(portrait, own, prompt)
        spoken = pipeline.speech_deformation(windows, index, own, face, prompt)
        expression = pipeline.scale_expression(portrait, spoken + emotional)
        return pipeline.drive_keypoints(portrait, pose.of(index), expression)

    def render(index: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (n, 3, 256, 256) and keypoints (1, n, K, 3)."""
        prompt = adaptation.emotion_mapper(latent, torch.zeros(1, dtype=torch.long, device=latent.device)).prompts
        driving = keypoints(index, prompt)
        rendered = adaptation.repos_net.render(portrait.features, portrait.keypoints, driving, prompt[:, 0])
        return rendered.frames[0], driving

    synchrony = None
    if sync_expert is not None and options.sync_weight and frames >= WINDOW:
        squares = face_squares(pipeline, portrait.keypoints)
        synchrony = synchrony_with(sync_expert, sync_mel(recording.waveform), squares)

    spread = torch.linspace(0, frames - 1, min(LOOKED_AT, frames)).long()
    fixed = torch.zeros(1, latent_size, device=pipeline.device)
    kept: dict[str, Tensor] = {}
    reached = LearningStep(0, options.steps, -1, -math.inf, -math.inf, np.zeros(0))

    def look(step: int) -> None:
        """See what has been reached, and keep the adapter if it is the best so far."""
        nonlocal reached, kept
        with torch.no_grad():
            pictures, _ = render(spread, fixed)
            similarity = (clip.embed_pictures(pictures) @ wanted.T).mean().item()
        if similarity > reached.best:
            kept = {key: value.clone() for key, value in adapter.tensors().items()}
        preview = (pictures[len(pictures) // 2] * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        reached = LearningStep(step, options.steps, step, similarity, max(similarity, reached.best), preview)

    optimizer = torch.optim.Adam(learning, options.learning_rate)
    with pipeline.progress_bar(total=options.steps) as progress:
        progress.set_description("learning")
        look(0)
        while (watch is None or watch(reached) is not False) and reached.step < options.steps:
            first = int(torch.randint(max(1, frames - WINDOW + 1), (), generator=generator))
            index = torch.arange(first, min(first + WINDOW, frames))
            latent = torch.randn(1, latent_size, generator=generator).to(pipeline.device)
            pictures, driving = render(index, latent)
            with torch.no_grad():
                neutral = keypoints(index, None)
            loss = options.clip_weight * (1 - clip.embed_pictures(pictures) @ wanted.T).mean()
            loss = loss + options.latent_weight * (driving - neutral).square().mean()
            if synchrony is not None:
                loss = loss + options.sync_weight * synchrony(pictures, driving, first)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress.update()
            reached = replace(reached, step=reached.step + 1)
            if reached.step % LOOK_EVERY == 0 or reached.step == options.steps:
                look(reached.step)
                progress.set_postfix(similarity=f"{reached.best:.3f}")
        if reached.looked < reached.step:
            look(reached.step)
    with torch.no_grad():
        for key, tensor in adapter.tensors().items():
            tensor.copy_(kept[key])
    facts = {"text": _listed(texts), "clip": clip.name, "similarity": round(reached.best, 4), "steps": reached.step}
    return EmotionAdapter(replace(adapter.config, training=facts), adapter.parts)


def synchrony_with(
    expert: SyncExpert, sound: np.ndarray, squares: Callable[[Tensor], Tensor]
) -> Callable[[Tensor, Tensor, int], Tensor]:
    """The sync loss as a function of five frames (5, 3, 256, 256), their keypoints (1, 5, K, 3) and the first's number.

    Args:
        sound: `sync_mel` of the clip.
        squares: where the faces are, see `face_squares`.
    """
    loss = SyncLoss(expert)

    def synchrony(pictures: Tensor, driving: Tensor, first: int) -> Tensor:
        mel = mel_input(mel_window(sound, first)[None])[None].to(pictures.device)
        return loss(crop_faces(pictures, squares(driving[0]))[None], mel)

    return synchrony


def face_squares(pipeline: "EATPipeline", source: Tensor) -> Callable[[Tensor], Tensor]:
    """Where the sync expert looks, as a function from keypoints (n, K, 3) to squares (n, 3), see `crop_faces`.

    An aligned portrait's face is where the template's is; it moves with the mean of the keypoints.

    Args:
        source: K_s (1, K, 3) of the portrait.
    """
    template = np.asarray(pipeline.config.template_landmarks or DEFAULT_TEMPLATE, np.float64)
    box = expert_boxes((template[None] + 0.5) / 128 - 1)[0]
    centre, half = source.new_tensor((box[:2] + box[2:]) / 2), float(box[2] - box[0]) / 2

    def squares(driving: Tensor) -> Tensor:
        moved = centre + (driving - source)[..., :2].mean(1).detach()
        return torch.cat([moved, moved.new_full((len(moved), 1), half)], 1)

    return squares
