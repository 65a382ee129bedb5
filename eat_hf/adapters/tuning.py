"""An emotion learnt from a sentence with CLIP (paper section 4.5)."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..animation.clip_plan import drive_keypoints
from ..animation.expression import (
    SpeechFeatures,
    SpeechWindows,
    emotional_deformation,
    read_windows,
    speech_deformation,
)
from ..animation.head_pose import HeadPose, pose_head
from ..animation.networks import Networks
from ..animation.portrait import Portrait
from ..constants import FPS
from ..inputs.audio import sync_mel
from ..inputs.faces import DEFAULT_TEMPLATE
from ..inputs.head_motion import HeadMotion
from ..models.a2et import A2ET
from ..models.judges.sync_expert import SyncExpert
from ..models.judges.sync_loss import WINDOW, SyncLoss, crop_faces, expert_boxes, mel_input, mel_window
from ..names import check_name
from .clip import CLIP
from .emotion_adapter import EmotionAdapter
from .from_text import listed

LOOK_EVERY, LOOKED_AT = 5, 4  # steps between looks at so many frames, spread over the clip


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


@dataclass(frozen=True)
class PracticeClip:
    """Somebody who talks without emotion, to learn with.

    Attributes:
        portrait: who.
        pose: (F,) of the head.
        windows: (F,) what is said.
        waveform: (N,) at 16 kHz, for the sync loss.
    """

    portrait: Portrait
    pose: HeadPose
    windows: SpeechWindows
    waveform: np.ndarray

    @classmethod
    def of(
        cls, a2et: A2ET, portrait: Portrait, speech: SpeechFeatures, motion: HeadMotion, waveform: np.ndarray
    ) -> "PracticeClip":
        pose = pose_head(portrait, motion)
        return cls(portrait, pose, read_windows(a2et, speech, pose), waveform)


def learn_emotion(
    networks: Networks,
    practice: PracticeClip,
    texts: str | Sequence[str],
    name: str,
    clip: CLIP,
    start: EmotionAdapter,
    options: LearningOptions,
    *,
    generator: torch.Generator | None = None,
    watch: Callable[[LearningStep], bool | None] | None = None,
    sync_expert: SyncExpert | None = None,
    progress: Callable[..., tqdm] = tqdm,
) -> EmotionAdapter:
    """Tune `start`, a one-emotion adapter, until the portrait's frames look like the text to CLIP.

    Everything but its head of M and its EAMs is frozen. Nothing of the networks changes.

    Args:
        texts: a sentence, or several phrasings of one wish, whose embeddings are averaged.
        name: of the emotion.
        watch: called after every step; if it returns False, tuning stops.
        sync_expert: of the sync loss; None leaves that out.
        progress: makes a bar for `total` steps.

    Returns:
        The adapter at its best similarity, which may be that of the start.

    Raises:
        UserError: the text is empty or too long, or the emotion cannot be called so.
    """
    check_name(name)
    wanted = clip.embed_text(texts)
    portrait, pose, windows = practice.portrait, practice.pose, practice.windows
    device = portrait.canonical.device
    frames = min(len(pose.yaw), round(options.seconds * FPS))

    adapter = EmotionAdapter(
        start.config.changed(emotions=(name,)), {part: copy.deepcopy(module) for part, module in start.parts.items()}
    )
    networks = networks.frozen()
    for part, module in adapter.parts.items():
        module.eval().requires_grad_(part != "edn")
    learning = [p for module in adapter.parts.values() for p in module.parameters() if p.requires_grad]
    adaptation, without = adapter.adapt(networks), networks.own
    basis = networks.expression_basis
    volume, latent_size = basis.scale(portrait.canonical), networks.emotion_mapper.config.latent

    def keypoints(index: Tensor, prompt: Tensor | None) -> Tensor:
        own = without if prompt is None else adaptation
        face, emotional = emotional_deformation(portrait, own, prompt)
        spoken = speech_deformation(basis, windows, index, own, face, prompt)
        return drive_keypoints(basis, portrait, pose.of(index), volume * (spoken + emotional))

    def render(index: Tensor, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (n, 3, 256, 256) and keypoints (1, n, K, 3)."""
        prompt = adaptation.emotion_mapper(latent, torch.zeros(1, dtype=torch.long, device=latent.device)).prompts
        driving = keypoints(index, prompt)
        rendered = adaptation.repos_net.render(portrait.features, portrait.keypoints, driving, prompt[:, 0])
        return rendered.frames[0], driving

    synchrony = None
    if sync_expert is not None and options.sync_weight and frames >= WINDOW:
        template = networks.keypoint_detector.config.template_landmarks
        squares = face_squares(portrait.keypoints, template)
        synchrony = synchrony_with(sync_expert, sync_mel(practice.waveform), squares)

    spread = torch.linspace(0, frames - 1, min(LOOKED_AT, frames)).long()
    fixed = torch.zeros(1, latent_size, device=device)
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
    with progress(total=options.steps) as bar:
        bar.set_description("learning")
        look(0)
        while (watch is None or watch(reached) is not False) and reached.step < options.steps:
            first = int(torch.randint(max(1, frames - WINDOW + 1), (), generator=generator))
            index = torch.arange(first, min(first + WINDOW, frames))
            latent = torch.randn(1, latent_size, generator=generator).to(device)
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
            bar.update()
            reached = replace(reached, step=reached.step + 1)
            if reached.step % LOOK_EVERY == 0 or reached.step == options.steps:
                look(reached.step)
                bar.set_postfix(similarity=f"{reached.best:.3f}")
        if reached.looked < reached.step:
            look(reached.step)
    with torch.no_grad():
        for key, tensor in adapter.tensors().items():
            tensor.copy_(kept[key])
    facts = {"text": listed(texts), "clip": clip.name, "similarity": round(reached.best, 4), "steps": reached.step}
    return EmotionAdapter(adapter.config.changed(training=facts), adapter.parts)


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


def face_squares(
    source: Tensor, template_landmarks: Sequence[Sequence[float]] | None = None
) -> Callable[[Tensor], Tensor]:
    """Where the sync expert looks, as a function from keypoints (n, K, 3) to squares (n, 3), see `crop_faces`.

    An aligned portrait's face is where the template's is; it moves with the mean of the keypoints.

    Args:
        source: K_s (1, K, 3) of the portrait.
        template_landmarks: what it was aligned to; None is `faces.DEFAULT_TEMPLATE`.
    """
    template = np.asarray(template_landmarks or DEFAULT_TEMPLATE, np.float64)
    box = expert_boxes((template[None] + 0.5) / 128 - 1)[0]
    centre, half = source.new_tensor((box[:2] + box[2:]) / 2), float(box[2] - box[0]) / 2

    def squares(driving: Tensor) -> Tensor:
        moved = centre + (driving - source)[..., :2].mean(1).detach()
        return torch.cat([moved, moved.new_full((len(moved), 1), half)], 1)

    return squares
