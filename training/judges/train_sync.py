"""Networks that hear whether lips fit a voice: the expert of the sync loss, and SyncNet, which judges results.

    accelerate launch -m training.judges.train_sync --network expert --corpus CORPUS --split train \\
        --output_dir runs/expert
    accelerate launch -m training.judges.train_sync --network judge --corpus JUDGE_CORPUS --output_dir runs/syncnet

The expert (section 3.3, Eq. 7) learns which of two pairs, in sync or shifted, is in sync (binary cross-entropy on the
cosine). The judge compares a window of lips with every window of sound around it and must prefer its own; its distances
are Euclidean, as LSE-C and LSE-D measure them. Where the corpus has exact weights of facial units, both streams also
learn to tell those of the mouth, which takes the place of the weeks of television that the public networks have seen.

A network that judged its own training loss would prove nothing: train the two on different corpora.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eat_hf import SyncExpert, SyncNet
from eat_hf.evaluation.metrics.synchrony import synchrony
from eat_hf.inputs.audio import mfcc, sync_mel
from eat_hf.models.judges.sync_loss import WINDOW, lower_half, mel_input, mel_window

from ..data.augment import jitter_colour, uniform
from ..data.dataset import Clip
from ..data.faces import FaceBank
from ..loop.command_line import parse_options, run_script
from ..loop.options import Batch, LoopOptions, Losses
from ..loop.trainer import main_process_first, train

MFCC_ROWS = 20  # 100 a second, so 4 a frame
SPEECH_UNITS, SPREAD = ("jawOpen", "mouthFunnel", "mouthPucker", "mouthRollLower"), 0.12
SHIFT = 5  # frames by which the held-out clips are shifted


@dataclass
class SyncOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    split: str | None = field(default=None, metadata={"help": "Split of it; all clips by default."})
    network: Literal["judge", "expert"] = field(default="judge", metadata={"help": "Which of the two."})
    unit_weight: float = field(default=1.0, metadata={"help": "Of the squared error of mouth units, 0 without."})
    initial: str | None = field(default=None, metadata={"help": "Folder of a network to start from."})
    windows: int = field(default=16, metadata={"help": "Windows of a clip that are told from each other (judge)."})


def augment(clips: Tensor) -> Tensor:
    """Colour, mirroring, and a small scale and shift, the same for all frames of a clip: (B, T, 3, H, W) in [0, 1]."""
    n, t = clips.shape[:2]
    frames = clips.flatten(1, 2)  # a clip is one tall picture to `jitter_colour`
    frames = jitter_colour(frames.unflatten(1, (t, 3)).transpose(1, 2).flatten(2, 3)).unflatten(2, (t, -1))
    frames = frames.transpose(1, 2)
    size = torch.where(torch.rand(n) < 0.5, -1.0, 1.0), uniform(n, 0.85, 1.1), uniform(n, -0.08, 0.08, 2)
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = size[0] * size[1], size[1], size[2]
    grid = F.affine_grid(theta, [n, 3, *clips.shape[-2:]], align_corners=False)
    moved = F.grid_sample(
        frames.flatten(0, 1), grid.repeat_interleave(t, 0), padding_mode="border", align_corners=False
    )
    noisy = moved + uniform(len(moved), 0, 0.03, 1, 1, 1) * torch.randn_like(moved)
    return noisy.clamp(0, 1).unflatten(0, (n, t))


class JudgeTask(nn.Module):
    """Batches and losses of SyncNet, the judge, and of a second task that is dropped when it has learnt: mouth units at
    the middle of every window, from what is seen and from what is heard."""

    def __init__(self, options: SyncOptions, model: SyncNet):
        super().__init__()
        self.options, self.windows = options, options.windows
        size = model.config.image_size
        # both ways to cut: protocol `standard` and `eat_official`
        with main_process_first():
            self.banks = [
                FaceBank.load(options.corpus, kind, size, options.split) for kind in ("tracked", "mouth_aligned")
            ]
        self.sounds = [read_mfcc(clip.waveform()) for clip in self.banks[0].clips]
        learnt_from, self.held_out = self.banks[0].held_out()
        self.pool = [n for n in learnt_from if len(self.banks[0].of(n)) >= self.windows + WINDOW]
        self.units = [mouth_units(clip) for clip in self.banks[0].clips] if options.unit_weight else None
        self.model = model
        if self.units:
            self.seen, self.heard = (nn.Linear(model.config.embedding, self.units[0].shape[1]) for _ in range(2))

    def draw(self, rng: np.random.Generator, count: int) -> Batch:
        lips, sounds, units = [], [], []
        for number in rng.choice(self.pool, count):
            bank = self.banks[rng.integers(2)]
            frames = bank.of(number)
            start = rng.integers(len(frames) - self.windows - WINDOW + 1)
            lips.append(frames[start : start + self.windows + WINDOW - 1])
            rows = self.sounds[number][4 * start : 4 * (start + self.windows - 1) + MFCC_ROWS]
            sounds.append(np.pad(rows, ((0, 4 * (self.windows - 1) + MFCC_ROWS - len(rows)), (0, 0)), mode="edge"))
            middle = slice(start + WINDOW // 2, start + WINDOW // 2 + self.windows)
            units.append(self.units[number][middle] if self.units else np.zeros((self.windows, 0), np.float32))
        pictures = augment(torch.from_numpy(np.stack(lips)).permute(0, 1, 4, 2, 3).float() / 255)
        heard = torch.from_numpy(np.stack(sounds))
        heard = heard + 0.3 * torch.randn_like(heard)
        heard[..., 0] += 2 * torch.randn(len(heard), 1)  # loudness
        return {"lips": pictures, "sounds": heard, "units": torch.from_numpy(np.stack(units))}

    def forward(self, batch: Batch) -> Losses:
        pictures = 255 * batch["lips"].transpose(1, 2).flip(1)  # BGR
        lips = self.model.encode_lips(pictures)
        sounds = self.model.encode_audio(batch["sounds"].transpose(1, 2)[:, None])
        distance = torch.cdist(lips, sounds)  # (B, windows, windows)
        index = torch.arange(self.windows, device=distance.device)
        apart = (index[:, None] - index).abs()
        logits = -distance.masked_fill(apart == 1, torch.inf)  # nobody can tell one frame
        target = index.expand(len(lips), -1)
        found = {
            "sound_of_lips": F.cross_entropy(logits.transpose(1, 2), target),
            "lips_of_sound": F.cross_entropy(logits, target),
        }
        if self.units:
            found["units_seen"] = self.options.unit_weight * F.mse_loss(self.seen(lips), batch["units"])
            found["units_heard"] = self.options.unit_weight * F.mse_loss(self.heard(sounds), batch["units"])
        return found

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out identities: share of clips, and of windows, nearer to their sound than to the shifted one."""
        results: dict[str, float] = {}
        for name, bank in zip(("tracked", "mouth_aligned"), self.banks, strict=True):
            clips = [n for n in self.held_out if np.ptp(self.sounds[n][:, 0]) > 8]  # silence fits everything
            scores = [score_shifts(self.model, bank.of(n), self.sounds[n]) for n in clips]
            results |= {f"{name}_{key}": float(np.mean([s[key] for s in scores])) for key in scores[0]}
            results[f"{name}_clips"] = len(clips)
        return results


@torch.no_grad()
def score_shifts(model: SyncNet, frames: np.ndarray, sound: np.ndarray, shift: int = SHIFT) -> dict[str, float]:
    """Is a clip (T, S, S, 3) nearer to its sound (rows, 13) than to the sound `shift` frames earlier and later?"""
    pictures = torch.from_numpy(frames[..., ::-1].copy()).permute(3, 0, 1, 2)[None].float()
    lips = model.encode_lips(pictures.to(model.device))[0].cpu()
    heard = model.encode_audio(torch.from_numpy(sound).T[None, None].to(model.device))[0].cpu()
    n = min(len(lips), len(heard))
    lips, heard = lips[:n], heard[:n]
    distance = torch.cdist(lips, heard).numpy()
    inside = np.arange(shift, n - shift)
    own = distance[inside, inside]
    earlier, later = distance[inside, inside - shift], distance[inside, inside + shift]
    found = synchrony(lips.numpy(), heard.numpy())
    return {
        "clips_in_sync_nearer": float(own.mean() < min(earlier.mean(), later.mean())),
        "windows_in_sync_nearer": float(np.mean(np.concatenate([own < earlier, own < later]))),
        "confidence": found.confidence,
        "distance": found.distance,
        "offset_within_1": float(abs(found.offset) <= 1),
    }


def mouth_units(clip: Clip) -> np.ndarray:
    """(T, units) weights of what speech moves and emotions hardly do, divided by about their spread."""
    labels = clip.labels("arkit", "arkit_names")
    names = [str(name) for name in labels["arkit_names"]]
    return labels["arkit"][:, [names.index(name) for name in SPEECH_UNITS]] / SPREAD


def read_mfcc(waveform: np.ndarray) -> np.ndarray:
    """(rows, 13) float32."""
    return mfcc(np.round(waveform * 32767), 13).astype(np.float32)


class ExpertTask(nn.Module):
    """Batches and losses of the sync expert."""

    def __init__(self, options: SyncOptions, model: SyncExpert):
        super().__init__()
        self.model = model
        with main_process_first():
            self.bank = FaceBank.load(options.corpus, "expert", 96, options.split)
        self.sounds = [sync_mel(clip.waveform()) for clip in self.bank.clips]
        self.pool, self.held_out = self.bank.held_out()
        self.options = options
        self.units = [mouth_units(clip) for clip in self.bank.clips] if options.unit_weight else None
        if self.units:
            *_, last = (module for module in model.modules() if isinstance(module, nn.Conv2d))
            width, count = last.out_channels, self.units[0].shape[1]  # of both embeddings
            self.seen, self.heard = (nn.Linear(width, count) for _ in range(2))

    def draw(self, rng: np.random.Generator, count: int) -> Batch:
        faces, sounds, labels, units = [], [], [], []
        for number in rng.choice(self.pool, count):
            frames = self.bank.of(number)
            last = len(frames) - WINDOW
            start = int(rng.integers(last + 1))
            faces.append(frames[start : start + WINDOW])
            others = [n for n in range(last + 1) if abs(n - start) > 1]
            in_sync = rng.random() < 0.5 or not others
            heard = start if in_sync else int(rng.choice(others))
            sounds.append(mel_window(self.sounds[number], heard))
            labels.append(float(in_sync))
            middles = [start + WINDOW // 2, heard + WINDOW // 2]
            units.append(self.units[number][middles] if self.units else np.zeros((2, 0), np.float32))
        pictures = torch.from_numpy(np.stack(faces)).permute(0, 1, 4, 2, 3).float() / 255
        return {
            "faces": lower_half(augment(pictures)),
            "mel": mel_input(np.stack(sounds)),
            "label": torch.tensor(labels),
            "units": torch.from_numpy(np.stack(units)),
        }

    def forward(self, batch: Batch) -> Losses:
        out = self.model(batch["mel"], batch["faces"])
        with torch.autocast(batch["mel"].device.type, enabled=False):  # bf16 cannot tell 1 - 1e-6 from 1
            cosine = (out.audio.float() * out.face.float()).sum(1)  # embeddings of ReLUs: never negative
            found = {"in_sync": F.binary_cross_entropy(cosine.clamp(1e-6, 1 - 1e-6), batch["label"])}
        if self.units:
            seen, heard = batch["units"].unbind(1)
            size = out.face.shape[1] ** 0.5  # of unit vectors, numbers of about 1, of which a map learns
            found["units_seen"] = self.options.unit_weight * F.mse_loss(self.seen(size * out.face), seen)
            found["units_heard"] = self.options.unit_weight * F.mse_loss(self.heard(size * out.audio), heard)
        return found

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Held-out identities: share of clips, and of windows, with a larger cosine in sync than shifted."""
        clips, windows = [], []
        for number in self.held_out:
            frames = self.bank.of(number)
            if np.ptp(self.sounds[number].mean(1)) < 1:  # silence fits everything
                continue
            inside = range(SHIFT, len(frames) - WINDOW - SHIFT)
            pictures = np.stack([frames[n : n + WINDOW] for n in inside])
            faces = lower_half(torch.from_numpy(pictures).permute(0, 1, 4, 2, 3).float() / 255)
            cosine = {}
            for shift in (-SHIFT, 0, SHIFT):
                mel = mel_input(np.stack([mel_window(self.sounds[number], n + shift) for n in inside]))
                out = self.model(mel.to(self.model.device), faces.to(self.model.device))
                cosine[shift] = (out.audio * out.face).sum(1).cpu().numpy()
            clips.append(cosine[0].mean() > max(cosine[-SHIFT].mean(), cosine[SHIFT].mean()))
            windows += [cosine[0] > cosine[-SHIFT], cosine[0] > cosine[SHIFT]]
        return {
            "clips_in_sync_nearer": float(np.mean(clips)),
            "windows_in_sync_nearer": float(np.concatenate(windows).mean()),
            "clips": len(clips),
        }


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(SyncOptions, "sync", argv)
    torch.manual_seed(options.seed)
    network, folder = {"judge": (SyncNet, "syncnet"), "expert": (SyncExpert, "sync_expert")}[options.network]
    model = network.from_pretrained(options.initial) if options.initial else network(**recipe.components[folder])
    task = JudgeTask(options, model) if isinstance(model, SyncNet) else ExpertTask(options, model)
    train(task, task.draw, options, {folder: task.model}, task.evaluate)


if __name__ == "__main__":
    run_script(main)
