"""Speech and emotion become the expression of every frame (paper sections 3.1 and 3.2)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .. import keypoints as kp
from ..constants import FPS, SAMPLING_RATE
from ..errors import UserError
from ..inputs.audio import MelInPieces, log_mel, loudness
from ..inputs.emotions import EmotionTrack
from ..inputs.head_motion import HeadMotion
from ..models.a2et import A2ET
from ..models.expression_basis import ExpressionBasis
from ..models.streaming_speech_encoder import StreamingSpeechEncoder
from .head_pose import HeadPose
from .networks import Adaptation, Networks
from .portrait import Portrait
from .pose_pictures import pose_pictures

TOKENS = 8  # tokens of speech that are made at a time, in batches of frames: they are small


@dataclass
class SpeechFeatures:
    """Attributes:
    semantic: (F, 16, 29), what is said around every frame; or F - 1 of them, where the last frame begins after the last
        whole window, and is said like the one before.
    mel: (F, 80), how it sounds.
    energy: (F,), root mean square of every frame's samples.
    """

    semantic: Tensor
    mel: Tensor
    energy: Tensor


@dataclass
class SpeechWindows:
    """Attributes:
    speech: (n, W, width), tokens of what is said around every frame.
    mel: (n, W, 80), how it sounds.
    head_pose: (n, width), the token of every frame's pose.
    """

    speech: Tensor
    mel: Tensor
    head_pose: Tensor


@dataclass
class EmotionMix:
    """What is felt in a clip of F frames, once prompts are drawn.

    Attributes:
        adaptations: those whose emotions show.
        prompts: (emotions, prompts, width) of all their emotions, in order.
        weights: (F, emotions), each row summing to 1.
        deformations: what was asked for of each emotion, see `deformation`.
    """

    adaptations: tuple[Adaptation, ...]
    prompts: Tensor
    weights: Tensor
    deformations: dict[int, tuple[Tensor, Tensor | float]] = field(default_factory=dict)

    @classmethod
    def draw(
        cls,
        track: EmotionTrack,
        frames: int,
        networks: Networks,
        adaptations: Sequence[Adaptation],
        generator: torch.Generator | None,
        device: torch.device,
    ) -> "EmotionMix":
        """What a track asks for, with noise drawn for it."""
        return cls.of(track, range(frames), adaptations, draw_latent(networks, generator, device))

    @classmethod
    def of(
        cls,
        track: EmotionTrack,
        frames: range,
        adaptations: Sequence[Adaptation],
        latent: Tensor,
        before: "EmotionMix | None" = None,
    ) -> "EmotionMix":
        """What a track asks for in some frames, with the noise of `draw_latent`. Adaptations that do not show take no
        part: a clip is the same whatever is loaded.

        Args:
            before: the mix of other frames of the clip, whose prompts serve again if the same adaptations show.
        """

        def weights(emotions: Sequence[str]) -> Tensor:
            return torch.from_numpy(track.weights(len(frames), emotions, start=frames.start)).to(latent)

        shown = tuple(each for each in adaptations if weights(each.emotions).any())
        emotions = [name for adaptation in shown for name in adaptation.emotions]
        if before is not None and before.adaptations == shown:
            return replace(before, weights=weights(emotions))
        return cls(shown, map_prompts(shown, latent), weights(emotions))

    @property
    def owners(self) -> list[Adaptation]:
        """The adaptation of each emotion."""
        return [adaptation for adaptation in self.adaptations for _ in adaptation.emotions]

    def deformation(self, portrait: Portrait, emotion: int) -> tuple[Tensor, Tensor | float]:
        """`emotional_deformation` of an emotion, computed once: a mix belongs to one portrait."""
        if emotion not in self.deformations:
            prompt = self.prompts[emotion, None]
            self.deformations[emotion] = emotional_deformation(portrait, self.owners[emotion], prompt)
        return self.deformations[emotion]

    def guidance(self) -> Tensor:
        """Guidance embedding e of the renderer: (1, width), or (1, F, width) if the emotion changes.

        Embeddings of several adaptations do not mean the same, so each has a mean of its own: then the last axis holds
        the share of each in the frame and its e, one after the other, as `MixedEAM` reads them.
        """
        embeddings = self.prompts[:, 0]
        if len(self.adaptations) == 1:
            mixed = self.weights @ embeddings
        else:
            sizes = [len(adaptation.emotions) for adaptation in self.adaptations]
            parts = []
            for own, share_of_each in zip(embeddings.split(sizes), self.weights.split(sizes, 1), strict=True):
                share = share_of_each.sum(1, keepdim=True)
                parts += [share, share_of_each @ own / torch.where(share == 0, 1, share)]
            mixed = torch.cat(parts, 1)
        return mixed[:1] if bool((self.weights == self.weights[:1]).all()) else mixed[None]


@torch.no_grad()
def hear(networks: Networks, waveform: Tensor, frames: int, device: torch.device) -> SpeechFeatures:
    """What is said and how it sounds, for every frame of a recording (N,) at 16 kHz.

    Raises:
        UserError: the model came without speech encoder.
    """
    if networks.speech_encoder is None:
        raise UserError("This model has no speech encoder; convert the release again with --deepspeech GRAPH.pb.")
    semantic = networks.speech_encoder(waveform[None].to(device))[0, :frames]
    mel = fit_length(log_mel(waveform), frames).to(semantic)
    return SpeechFeatures(semantic=semantic, mel=mel, energy=loudness(waveform, frames))


class SpeechInPieces:
    """`hear` of sound that comes in pieces: the same features, up to rounding, however it is cut.

    It remembers a moment of sound and what the speech encoder does, however long it listens.

    Raises:
        UserError: the model came without speech encoder, or with one that hears whole recordings alone.
    """

    def __init__(self, networks: Networks, device: torch.device):
        encoder = networks.speech_encoder
        if not isinstance(encoder, StreamingSpeechEncoder):
            raise UserError(
                "This model's speech encoder does not hear sound as it comes; choose a model with a "
                "StreamingSpeechEncoder, such as the bundled one."
            )
        self._device, self._encoder = device, encoder
        self._said, self._sounds = encoder.listen(), MelInPieces()
        self._hop = SAMPLING_RATE // FPS
        self._samples = self._frames = 0  # that came, that were given
        self._waiting: SpeechFeatures | None = None  # rows of which others of the same frames are still to come
        self._before = torch.zeros(0)  # what was said in the last frame that was given
        self._sound = torch.zeros(0)  # of the next frames

    @property
    def lookahead(self) -> float:
        """Seconds of sound after a frame's time that its features depend on."""
        return max(self._encoder.window_lookahead, MelInPieces.LOOKAHEAD, 1 / FPS)

    @torch.no_grad()
    def push(self, waveform: Tensor, last: bool = False) -> SpeechFeatures:
        """The next sound (n,) at 16 kHz, n of any size -> features of the frames that no later sound can change and
        that were not given before.

        Args:
            last: the sound is over with it, so all frames that are left are given; the last may reach past its end.

        Raises:
            ValueError: the sound was over before, or is over and shorter than a moment, see `log_mel`.
        """
        self._samples += len(waveform)
        semantic = self._said.push(waveform[None].to(self._device), last)[0]
        mel = self._sounds.push(waveform, last).to(semantic)
        sound = torch.cat([self._sound, waveform.to(self._sound)])
        whole = math.ceil(len(sound) / self._hop) if last else len(sound) // self._hop
        energy, self._sound = loudness(sound[: whole * self._hop], whole), sound[whole * self._hop :].clone()
        if self._waiting is not None:
            semantic = torch.cat([self._waiting.semantic, semantic])
            mel = torch.cat([self._waiting.mel, mel])
            energy = torch.cat([self._waiting.energy, energy])
        if last:
            frames = math.ceil(self._samples / self._hop) - self._frames
            if len(semantic) == 0 and frames:  # said like the frame before, which was given
                semantic = self._before
            features = SpeechFeatures(fit_length(semantic, frames), fit_length(mel, frames), energy[:frames])
        else:
            frames = min(len(semantic), len(mel), len(energy))
            features = SpeechFeatures(semantic[:frames], mel[:frames], energy[:frames])
            self._waiting = SpeechFeatures(semantic[frames:].clone(), mel[frames:].clone(), energy[frames:].clone())
            if frames:
                self._before = features.semantic[-1:].clone()
        self._frames += frames
        return features


@torch.no_grad()
def draw_prompts(
    networks: Networks,
    adaptations: Sequence[Adaptation],
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Prompts of all emotions of some adaptations (emotions, prompts, width)."""
    return map_prompts(adaptations, draw_latent(networks, generator, device))


def draw_latent(networks: Networks, generator: torch.Generator | None, device: torch.device | str) -> Tensor:
    """Noise for the prompts of a clip: (emotions of the model's own, latent), in their order, so that an emotion looks
    the same alone and in a mixture."""
    config = networks.emotion_mapper.config
    drawn_on = generator.device if generator is not None else "cpu"
    return torch.randn(len(config.emotions), config.latent, generator=generator, device=drawn_on).to(device)


@torch.no_grad()
def map_prompts(adaptations: Sequence[Adaptation], latent: Tensor) -> Tensor:
    """Prompts of all emotions of some adaptations (emotions, prompts, width). Adapters' emotions share the noise of the
    model's own, so that nothing else depends on what is loaded."""
    prompts = []
    for adaptation in adaptations:
        ids = torch.arange(len(adaptation.emotions), device=latent.device)
        prompts.append(adaptation.emotion_mapper(latent[ids % len(latent)], ids).prompts)
    return torch.cat(prompts)


@dataclass
class SpeechTokens:
    """Tokens of what is said in the frames of a clip, each made once: windows of ten others have it, too.

    Attributes:
        made: (width,) each, by the number of the frame in the clip.
        first: the clip's number of the first frame at hand.
    """

    made: dict[int, Tensor] = field(default_factory=dict)
    first: int = 0

    def of(self, frames: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Those of frames at hand (n,), (n, width); `make` makes those of frames that are missing."""
        numbers = [self.first + frame for frame in frames.tolist()]
        known = {number: self.made[number] for number in numbers if number in self.made}
        missing = [place for place, number in enumerate(numbers) if number not in known]
        if missing:
            known |= zip((numbers[place] for place in missing), make(frames[missing]), strict=True)
            self.made.update(known)
        return torch.stack([known[number] for number in numbers])

    def since(self, first: int, before: int) -> "SpeechTokens":
        """For frames at hand that begin with number `first`; tokens from `before` frames ahead of it on are kept."""
        for number in [number for number in self.made if number < first - before]:
            del self.made[number]
        return SpeechTokens(self.made, first)


def read_windows(
    a2et: A2ET,
    speech: SpeechFeatures,
    pose: HeadPose,
    batch_size: int = 8,
    index: Tensor | None = None,
    tokens: SpeechTokens | None = None,
) -> SpeechWindows:
    """What A2ET reads around frames of some numbers (n,), or all; the same for all emotions.

    Args:
        tokens: where those that were made are, and are left.
    """
    window, frames = a2et.config.window, len(speech.mel)
    index = torch.arange(frames, device=speech.mel.device) if index is None else index
    offsets = torch.arange(window, device=index.device)
    # tokens once for each frame, and for those thought around the clip
    needed, places = (index[:, None] + offsets).unique(return_inverse=True)

    def make(frame: Tensor) -> Tensor:
        inside = frame.clamp(0, frames - 1)
        said = speech.semantic[inside.clamp(max=len(speech.semantic) - 1)]
        semantic = torch.where((frame != inside)[:, None, None], a2et.semantic_padding.to(said), said)
        near = pose.of(inside)
        rotation = kp.pose_picture_rotation(*(kp.logits_from_degrees(angle) for angle in near.angles))
        parts = torch.arange(len(frame), device=index.device).split(TOKENS * batch_size)
        pictures = (pose_pictures(rotation[part], near.translation[part]) for part in parts)
        return torch.cat([a2et.encode_speech(semantic[part], seen) for part, seen in zip(parts, pictures, strict=True)])

    frame = needed - window // 2
    inside = frame.clamp(0, frames - 1)
    mel = torch.where((frame != inside)[:, None], a2et.mel_padding.to(speech.mel), speech.mel[inside])
    spoken = make(frame) if tokens is None else tokens.of(frame, make)
    own = pose.of(index)
    angles = [kp.logits_from_degrees(angle) for angle in own.angles]
    return SpeechWindows(
        speech=spoken[places],
        mel=mel[places],
        head_pose=a2et.head_pose_token(*angles, own.translation),
    )


def emotional_deformation(
    portrait: Portrait, adaptation: Adaptation, prompt: Tensor | None
) -> tuple[Tensor, Tensor | float]:
    """What an emotion does to all frames: A2ET's face features, and EDN's part of E', (1, 3K), for prompts
    (1, prompts, width) or None."""
    face = adaptation.a2et.face_features(portrait.prediction_map, None if prompt is None else prompt[:, 0])
    return face, 0.0 if prompt is None else adaptation.edn(face, prompt).expression


def speech_deformation(
    basis: ExpressionBasis,
    windows: SpeechWindows,
    index: Tensor,
    adaptation: Adaptation,
    face: Tensor,
    prompt: Tensor | None,
) -> Tensor:
    """A2ET's part of E' of some of the windows' frames, (n, 3K); `face` and `prompt` as in `emotional_deformation`."""
    a2et, count = adaptation.a2et, len(index)
    guidance = None if prompt is None else prompt[:, 0].expand(count, -1)
    acoustic = a2et.acoustic_tokens(windows.mel[index], face.expand(count, -1, -1, -1), guidance)
    deep = None if prompt is None else prompt[:, 1:].expand(count, -1, -1)
    return basis(a2et.predict(windows.speech[index], acoustic, windows.head_pose[index], deep))


@torch.no_grad()
def predict_expression(
    networks: Networks,
    portrait: Portrait,
    speech: SpeechFeatures,
    pose: HeadPose,
    mix: EmotionMix | None,
    batch_size: int = 8,
    index: Tensor | None = None,
    tokens: SpeechTokens | None = None,
) -> Tensor:
    """E' of frames of some numbers (n,), or of all: (n, 3K). A2ET and EDN for each emotion that shows, mixed by weight.

    Without a mix, A2ET alone, as it was before emotional adaptation. `tokens` are those of `read_windows`.
    """
    index = torch.arange(len(speech.mel), device=speech.mel.device) if index is None else index
    windows = read_windows(networks.a2et, speech, pose, batch_size, index, tokens)
    expression = speech.mel.new_zeros(len(index), 3 * portrait.canonical.shape[1])
    shares = speech.mel.new_ones(len(index), 1) if mix is None else mix.weights[index]
    for emotion in (shares != 0).any(0).nonzero()[:, 0].tolist():
        if mix is None:
            owner, prompt = networks.own, None
            face, emotional = emotional_deformation(portrait, owner, prompt)
        else:
            owner, prompt = mix.owners[emotion], mix.prompts[emotion, None]
            face, emotional = mix.deformation(portrait, emotion)
        for part in shares[:, emotion].nonzero()[:, 0].split(batch_size):
            spoken = speech_deformation(networks.expression_basis, windows, part, owner, face, prompt)
            expression[part] += shares[part, emotion, None] * (spoken + emotional)
    return expression * networks.expression_basis.scale(portrait.canonical)


def move_eyes(basis: ExpressionBasis, portrait: Portrait, motion: HeadMotion) -> Tensor:
    """What blinks and gaze add to E' of every frame: (F, 3K), 0 of models that do not blink or look about."""
    known = {"blink": basis.config.blink_deformation, "gaze": basis.config.gaze_deformation}
    moved = portrait.canonical.new_zeros(len(motion), portrait.canonical[0].numel())
    for name, deformation in known.items():
        if deformation is not None:
            track = getattr(motion, name).to(moved).reshape(len(motion), -1)
            moved = moved + track @ moved.new_tensor(deformation).reshape(track.shape[1], -1)
    return moved * basis.scale(portrait.canonical)


def fit_length(rows: Tensor, length: int) -> Tensor:
    """Cut (N, ...) to `length` rows, or repeat the last one."""
    missing = length - len(rows)
    return rows[:length] if missing <= 0 else torch.cat([rows, rows[-1:].expand(missing, *rows.shape[1:])])
