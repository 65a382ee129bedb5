"""A small CLIP of talking faces, for machines that cannot have a large one: pictures and sentences in one space.

    accelerate launch -m training.text.train_clip --corpus CORPUS --output_dir runs/clip

Frames of the corpus with sentences that say what their exact facial units are (`corpus/captions.py`). Beside the
contrastive loss of CLIP, whose targets say how alike two expressions are (many captions fit a frame), one linear map
must read the facial units off either embedding: it ties both sides to what they mean. And patches of the picture must
tell which keypoints lie in them, without which a vision transformer hardly learns anything from so few pictures. It is
a CLIPModel of transformers with its own tokenizer; it knows the words of the grammar and faces like the corpus',
nothing else.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import PartialState
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    PreTrainedTokenizerFast,
)

from eat_hf.adapters.clip import CLIP, to_clip_pixels
from eat_hf.errors import UserError

from ..corpus.captions import FEELING, PLAIN, Wish, make_wish, sample_wish, say_wish, wish_of
from ..corpus.sentences import sentences
from ..data.augment import degrade, transform_similarity, vary_colour
from ..data.dataset import Corpus
from ..data.frames import FrameBank
from ..loop.command_line import parse_options, run_script
from ..loop.options import Batch, LoopOptions, Losses
from ..loop.trainer import main_process_first, train

LONGEST, SHORT = 77, 40  # tokens that CLIP reads, and that captions have at most
MIDDLE = 0.75  # of an aligned picture, which holds the face from brows to chin
CALM = 3  # unrelated frames that are nearly neutral, see `range_of_motion`
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass
class CLIPOptions(LoopOptions):
    """Options of this stage."""

    corpus: str = field(
        default="corpus_wishes,corpus",
        metadata={"help": "Corpora with exact facial units, a comma between them; each gives as many frames."},
    )
    text_only: int = field(default=1, metadata={"help": "Captions for each frame that belong to no frame."})
    stray_words: float = field(
        default=0.3, metadata={"help": "Share of captions with words in them that have nothing to do with faces."}
    )
    likeness: float = field(default=0.25, metadata={"help": "Distance of facial units at which two are still alike."})
    units_weight: float = field(default=20.0, metadata={"help": "Of reading facial units off the embeddings."})
    places_weight: float = field(default=1.0, metadata={"help": "Of telling which patch a keypoint lies in."})


def make_tokenizer(seed: int, size: int, captions: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE, learnt from so many captions and from the corpus' training sentences.

    A word begins with its space, where CLIP's marks its end: that would number the marked letters by chance."""
    rng = np.random.default_rng(seed)
    texts = [say_wish(sample_wish(rng), rng).lower() for _ in range(captions)] + [s.lower() for s in sentences("train")]
    tokenizer = Tokenizer(models.BPE(unk_token=END))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(token, tokenizer.token_to_id(token)) for token in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{START} $A {END}", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=LONGEST,
    )


def make_clip(sizes: dict, tokenizer: PreTrainedTokenizerFast) -> CLIPModel:
    """An untrained CLIP of a config's sizes."""
    text = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    text |= {"eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": LONGEST, **sizes["text"]}
    return CLIPModel(
        CLIPConfig(
            text_config=CLIPTextConfig(**text).to_dict(),
            vision_config=CLIPVisionConfig(**sizes["vision"]).to_dict(),
            projection_dim=sizes["projection_dim"],
        )
    )


class Captions:
    """Frames of a split, with what sentences may say of them.

    A corpus of wishes knows what every frame was made to show; in others it is read off facial units and emotion.

    Args:
        size: of a picture's side, before CLIP cuts its middle out.
    """

    def __init__(self, corpus: str, split: str, options: CLIPOptions, size: int):
        self.bank, self.options, self.size = FrameBank.load(corpus, split), options, size
        if "arkit" not in self.bank.labels:
            raise UserError(
                f"{corpus} has no exact facial units, which captions are made of; use the synthetic corpus."
            )
        self.clips = Corpus(corpus).clips(split=split, rendered=True)
        self.first = np.searchsorted(self.bank.clip, np.arange(len(self.clips)))
        self.strays = sorted({word for sentence in sentences("train") for word in sentence.strip(".?!").split()})

    def __len__(self) -> int:
        return len(self.bank.clip)

    def wish(self, frame: int, rng: np.random.Generator) -> Wish:
        number = self.bank.clip[frame]
        clip, arkit = self.clips[number], self.bank.labels["arkit"][frame]
        if "wish" in clip.metadata:
            wishes = clip.metadata["wish"]
            place = 0 if clip.kind == "speech" else frame - self.first[number]
            weak = clip.kind != "speech" and place < CALM  # the first of unrelated frames are nearly neutral
            parts = (("neutral", PLAIN),) if weak else tuple((name, strength) for name, strength in wishes[place])
            return Wish(parts, arkit)
        named = clip.kind == "speech" and rng.random() < 0.7  # else its actions alone
        return wish_of(arkit, clip.emotion if named else None, clip.level or 0)

    def stray(self, sentence: str, rng: np.random.Generator) -> str:
        """With words that must not matter, sometimes."""
        words = sentence.split()
        if rng.random() < self.options.stray_words:
            for _ in range(int(rng.integers(1, 4))):
                words.insert(int(rng.integers(len(words) + 1)), str(rng.choice(self.strays)))
        return " ".join(words)

    def draw(self, tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, count: int) -> Batch:
        """Frames with a caption each, and captions without a frame."""
        frames = rng.integers(len(self), size=count)
        names = ("keypoints", "canonical", "expression", "translation", "yaw", "pitch", "roll")
        small = F.interpolate(self.bank.pixel_values(frames), self.size, mode="area")  # and so the rest costs little
        labels = {name: self.bank.label(name, frames) for name in names}
        pictures, labels = transform_similarity(small, labels, max_roll=6, max_scale=0.08, max_shift=0.04)
        wishes = []
        for frame in frames:
            wishes += [self.wish(int(frame), rng), *(sample_wish(rng) for _ in range(self.options.text_only))]
        tokens = tokenise(tokenizer, [self.stray(say_wish(wish, rng), rng) for wish in wishes])
        units = torch.from_numpy(np.stack([wish.arkit for wish in wishes])).float()
        split = {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask, "units": units}
        return {
            "pixel_values": degrade(vary_colour(pictures)),
            "keypoints": labels["keypoints"][..., :2],
            **{name: value.unflatten(0, (count, -1)) for name, value in split.items()},
        }


def draw(sources: list[Captions], tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, count: int) -> Batch:
    """As many frames of each, give or take one."""
    shares = [len(part) for part in np.array_split(np.arange(count), len(sources))]
    batches = [source.draw(tokenizer, rng, share) for source, share in zip(sources, shares, strict=True) if share]
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def tokenise(tokenizer: PreTrainedTokenizerFast, texts: list[str]):
    return tokenizer(texts, padding="max_length", truncation=True, max_length=SHORT, return_tensors="pt")


class CLIPTask(nn.Module):
    """CLIP's loss with soft targets, facial units read off both embeddings, and keypoints found in patches."""

    def __init__(self, clip: CLIP, options: CLIPOptions, units: int, keypoints: int):
        super().__init__()
        self.clip, self.model, self.options = clip, clip.model.requires_grad_(True), options
        config = clip.model.config
        self.read_units = nn.Linear(config.projection_dim, units)
        width = config.vision_config.hidden_size
        self.find_keypoints, self.read_patches = nn.Linear(width, keypoints), nn.Linear(width, units)

    def units_of(self, embeddings: Tensor) -> Tensor:
        """Unit vectors (N, D) -> facial units (N, units)."""
        return self.read_units(embeddings * embeddings.shape[1] ** 0.5)  # numbers of about 1, of which a map learns

    def patch_of(self, keypoints: Tensor) -> Tensor:
        """Where keypoints (N, K, 2) lie: numbers of patches (N, K), of the nearest if it is cut off."""
        vision, edge = self.model.config.vision_config, self.clip.preprocessing["size"]["shortest_edge"]
        count = vision.image_size // vision.patch_size
        column, row = (
            ((keypoints * edge / vision.image_size + 1) / 2 * count).floor().long().clamp(0, count - 1).unbind(-1)
        )
        return row * count + column

    def forward(self, batch: Batch) -> Losses:
        wanted = batch["units"]  # (N, 1 + M, units): of the frame, and of captions without one
        vision = self.model.vision_model
        seen = vision(to_clip_pixels(batch["pixel_values"].float(), self.clip.preprocessing))
        pictures = F.normalize(self.model.visual_projection(seen.pooler_output), dim=-1)
        patches = vision.post_layernorm(seen.last_hidden_state[:, 1:])
        tokens = {name: batch[name].flatten(0, 1) for name in ("input_ids", "attention_mask")}
        texts = self.clip.embed_tokens(tokens)
        own = texts.unflatten(0, wanted.shape[:2])[:, 0]
        distance = torch.cdist(wanted[:, 0], wanted[:, 0]) / self.options.likeness
        target = torch.softmax(-distance.square(), -1)
        logits = self.model.logit_scale.exp().clamp(max=50) * pictures @ own.T
        agreement = target * (logits.log_softmax(-1) + logits.T.log_softmax(-1)) / 2
        return {
            "contrast": -agreement.sum(-1).mean(),
            "units_of_pictures": self.options.units_weight * F.mse_loss(self.units_of(pictures), wanted[:, 0]),
            "units_of_patches": self.options.units_weight
            * F.mse_loss(self.read_patches(patches.mean(1)), wanted[:, 0]),
            "units_of_texts": self.options.units_weight * F.mse_loss(self.units_of(texts), wanted.flatten(0, 1)),
            "places": self.options.places_weight
            * F.cross_entropy(self.find_keypoints(patches), self.patch_of(batch["keypoints"])),
        }


@torch.no_grad()
def evaluate(task: CLIPTask, sources: list[Captions], frames: int = 400) -> dict[str, float]:
    """On held-out people, in held-out phrasings, with so many frames of each corpus.

    `emotion_of_frame`: how often a frame of the strongest level is nearest to the sentences of its own emotion, of
    those of all eight. `units_of_pictures`, `units_of_texts`: mean correlation of facial units with those read.
    """
    rng = np.random.default_rng(0)
    task.model.eval()
    names = list(FEELING)
    known = torch.cat([
        task.clip.embed_text([say_wish(make_wish(((name, PLAIN),)), rng, "test") for _ in range(8)]) for name in names
    ])  # fmt: skip
    right: list[bool] = []
    read_units, true_units = [], []
    for captions in sources:
        strong = np.array([clip.level == 3 and clip.emotion in FEELING for clip in captions.clips])
        emotional = np.flatnonzero(strong[captions.bank.clip])
        if len(emotional):
            chosen = rng.choice(emotional, size=min(frames, len(emotional)), replace=False)
            found = (embed_frames(task, captions, chosen) @ known.T).argmax(-1).tolist()
            clips = captions.bank.clip[chosen]
            right += [captions.clips[clip].emotion == names[one] for clip, one in zip(clips, found, strict=True)]
        chosen = rng.choice(len(captions), size=min(frames, len(captions)), replace=False)
        read_units.append(task.units_of(embed_frames(task, captions, chosen)).cpu().numpy())
        true_units.append(captions.bank.labels["arkit"][chosen])
    results = {"emotion_of_frame": float(np.mean(right))} if right else {}
    results["units_of_pictures"] = mean_correlation(np.concatenate(read_units), np.concatenate(true_units))
    wishes = [sample_wish(rng) for _ in range(frames)]
    texts = torch.cat([task.clip.embed_text(say_wish(wish, rng, "test")) for wish in wishes])
    read = task.units_of(texts).cpu().numpy()
    return results | {"units_of_texts": mean_correlation(read, np.stack([wish.arkit for wish in wishes]))}


def embed_frames(task: CLIPTask, captions: Captions, frames: np.ndarray) -> Tensor:
    parts = np.array_split(frames, max(1, len(frames) // 32))
    device = task.model.device
    return torch.cat([task.clip.embed_pictures(captions.bank.pixel_values(part).to(device)) for part in parts])


def mean_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Of columns (N, U) that change at all."""
    moving = b.std(0) > 0.05
    return float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T[moving], b.T[moving], strict=True)]))


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(CLIPOptions, "clip", argv)
    sizes = recipe.components["clip"]
    side = sizes["vision"]["image_size"]
    edge = round(side / MIDDLE)
    with main_process_first():
        captions, held_out = (
            [Captions(corpus, split, options, edge) for corpus in options.corpus.split(",")]
            for split in ("train", "validation")
        )
    torch.manual_seed(options.seed)
    tokenizer = make_tokenizer(options.seed, sizes["vocabulary"], sizes["captions"])
    preprocessing = CLIPImageProcessorPil(size={"shortest_edge": edge}, crop_size={"height": side, "width": side})
    clip = CLIP("clip", make_clip(sizes, tokenizer), tokenizer, json.loads(preprocessing.to_json_string()))
    labels = captions[0].bank.labels
    task = CLIPTask(clip, options, labels["arkit"].shape[1], labels["keypoints"].shape[1])
    train(
        task,
        lambda rng, count: draw(captions, tokenizer, rng, count),
        options,
        {"clip": clip.model},
        lambda: evaluate(task, held_out),
    )
    if PartialState().is_main_process:
        clip.save(Path(options.output_dir) / "clip")


if __name__ == "__main__":
    run_script(main)
