"""Stage 2: efficient emotional adaptation (paper section 3.2). Only M, EDN and the EAMs learn; the rest is frozen.

    accelerate launch -m training.stage_2_emotion --corpus CORPUS --runs runs --output_dir runs/emotion

With terms on pictures (see `training.losses.rendered`) the EAM of RePos-Net learns, too. The paper's ablations are
options: `--prompts` (Table 4), `--edn` and `--eam` (Table 5), the weights of losses (Table 6), `--data_share`. A part
that is left out is saved as one that does nothing, so that the pipeline runs every variant as it was trained.

A new emotion, as an adapter on top of a finished model, from a few clips of it:

    accelerate launch -m training.stage_2_emotion --stage adapter --base checkpoints_card/eat-demo --adapter smirk \\
        --corpus CLIPS --output_dir runs/smirk

The adapter's head of M, its EDN and its EAMs start as copies of the base's; the base stays as it is.
"""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn

from eat_hf import A2ET, EATPipeline, ExpressionBasis
from eat_hf.adapters.emotion_adapter import EmotionAdapter
from eat_hf.animation.reenactment import Reenactment
from eat_hf.constants import EMOTIONS
from eat_hf.errors import UserError
from eat_hf.pipeline.bundled import find_model

from .data.clip_pictures import ClipPictures, check_pictures, weigh_pictures
from .data.dataset import Corpus
from .data.expression_clips import A2ETOptions, load_data
from .data.motion import MOUTH_CORNERS, MotionClip, MotionData, keypoint_error
from .loop.command_line import parse_options, run_script
from .loop.options import Batch, Losses
from .loop.trainer import main_process_first, train
from .losses.emotional_a2et import EmotionalA2ET
from .losses.latent import LatentTerms, correlation, opening
from .losses.rendered import PictureTerms, load_picture_terms, make_picture_terms

CONTEMPT = EMOTIONS.index("contempt")
PROMPTS = {"shallow": 2, "none": 1}  # that M makes, with the guidance embedding; deep prompts: as the config says


@dataclass
class EmotionOptions(A2ETOptions):
    """Options of this stage."""

    initial: str = field(default="", metadata={"help": "The a2et folder to adapt; default: that of the run a2et."})
    prompts: Literal["deep", "shallow", "none"] = field(
        default="deep", metadata={"help": "A prompt for every layer, one for the first layer, or none."}
    )
    edn: bool = field(default=True, metadata={"help": "Learn EDN; false: it adds nothing."})
    eam: bool = field(default=True, metadata={"help": "Learn the EAMs; false: they change nothing."})
    data_share: float = field(
        default=1.0,
        metadata={"help": "Share, up to 1, of the clips of each emotion to learn from, chosen by the seed."},
    )
    min_level: int = field(default=2, metadata={"help": "Weakest emotional clips to learn from, 1 to 3."})
    one_sided_contempt: bool = field(
        default=True, metadata={"help": "Learn contempt from the clips alone that show it on the commoner side."}
    )
    adapter: str = field(
        default="", metadata={"help": "Name of a new emotion: learn it as an adapter, from the clips of the corpus."}
    )
    base: str = field(default="checkpoints_card/eat-demo", metadata={"help": "What an adapter is for: folder, Hub id."})
    start: str = field(default="neutral", metadata={"help": "Emotion of the base whose head of M an adapter copies."})
    evaluation_clips: int = field(default=80, metadata={"help": "Held-out clips to measure on."})


class EmotionTask(nn.Module):
    """The keypoint term of Eq. 6; and terms on pictures."""

    def __init__(self, model: EmotionalA2ET, latents: LatentTerms, pictures: PictureTerms | None = None):
        super().__init__()
        self.model, self.latents, self.pictures = model, latents, pictures

    def forward(self, batch: Batch) -> Losses:
        expression, guidance = self.model(batch, batch["latent"])
        losses = self.latents(expression, batch)
        return losses if self.pictures is None else losses | self.pictures(batch, expression, guidance)


def by_emotion(data: MotionData, min_level: int, contempt_side: int = 0) -> list[list[int]]:
    """Numbers of the clips that teach each emotion; of contempt those on one side (`contempt_side`), if there are any.

    Contempt lifts one corner of the mouth, and a neutral portrait does not tell which. A squared error would learn the
    mean of both sides: a faint smile.
    """
    pools = [
        [n for n, clip in enumerate(data.clips) if clip.emotion == e and clip.teaches_emotion(min_level)]
        for e in range(len(EMOTIONS))
    ]
    one_sided = [n for n in pools[CONTEMPT] if raised_corner(data.clips[n], data.keypoint_names) == contempt_side]
    pools[CONTEMPT] = one_sided or pools[CONTEMPT]
    return pools


def raised_corner(clip: MotionClip, names: list[str]) -> int:
    """Corner of the mouth that a clip lifts more on the mean: -1 left, 1 right, 0 where keypoints lack such names."""
    if not set(MOUTH_CORNERS) <= set(names):
        return 0
    left, right = (clip.expression[:, 3 * names.index(corner) + 1].mean() for corner in MOUTH_CORNERS)  # y is down
    return 1 if right < left else -1


def contempt_side(data: MotionData, min_level: int) -> int:
    """The side, as `raised_corner` gives it, on which most clips show contempt."""
    sides = [raised_corner(data.clips[n], data.keypoint_names) for n in by_emotion(data, min_level)[CONTEMPT]]
    return max(set(sides), key=sides.count, default=0)


def choose_share(pools: list[list[int]], share: float, seed: int) -> list[list[int]]:
    """A share of the clips of each emotion, at least one; a smaller share is part of a larger one.

    Raises:
        UserError: the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise UserError(f"data_share must be above 0 and at most 1, not {share}.")
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(pool).tolist() for pool in pools]
    return [sorted(order[: math.ceil(share * len(order))]) for order in orders]


@torch.no_grad()
def evaluate(model: EmotionalA2ET, data: MotionData, pools: list[list[int]], clips: int) -> dict[str, float]:
    """On held-out clips: keypoint error, opening correlation, and how many clips are nearest to their own emotion.

    `pools`: numbers of the clips of each emotion, the first of which are measured.

    `emotion_accuracy`: the clip's mean predicted expression, against the mean true expression of every emotion.
    """
    names = data.keypoint_names
    means = [[data.clips[n].expression.mean(0) for n in numbers] for numbers in pools]
    centroids = torch.stack([torch.stack(clips).mean(0) for clips in means])
    errors, openings = [], []
    right: list[bool] = []
    truth_right: list[bool] = []
    generator = torch.Generator().manual_seed(0)
    for number in sorted(sum(pools, []))[:clips]:
        clip = data.clips[number]
        batch = data.windows(clip, np.arange(len(clip.mel)))
        batch = {name: value[None].to(model.a2et.device) for name, value in batch.items()}
        latent = torch.randn(1, model.mapper.config.latent, generator=generator)
        predicted = model(batch, latent.to(model.a2et.device))[0][0].cpu()
        errors.append(keypoint_error(clip, predicted))
        truth = opening(clip.expression, names)
        if truth.std() > 1e-3:
            openings.append(correlation(opening(predicted, names), truth))
        for mean, hits in ((predicted.mean(0), right), (clip.expression.mean(0), truth_right)):
            hits.append(int((centroids - mean).norm(dim=-1).argmin()) == clip.emotion)
    return {
        "keypoints_px": float(np.mean(errors)),
        "opening_correlation": float(np.mean(openings)),
        "emotion_accuracy": float(np.mean(right)),
        "emotion_accuracy_of_truth": float(np.mean(truth_right)),
    }


def clips_of(emotion: str, corpus_dir: str, split: str) -> list[int]:
    """Numbers of the speech clips of a split that show a new emotion: those that say so or, if none does, those that
    say nothing."""
    labels = [clip.emotion for clip in Corpus(corpus_dir).clips(split=split, kind="speech")]
    return [n for n, label in enumerate(labels) if label == (emotion if emotion in labels else None)]


@torch.no_grad()
def evaluate_adapter(
    model: EmotionalA2ET, before: EmotionalA2ET, start: int, data: MotionData, pool: list[int], clips: int
) -> dict[str, float]:
    """How well a new emotion is shown in whole clips.

    `keypoints_px`: mean distance, pixels of the 256 frame, of their keypoints; `keypoints_before_px`: the same if the
    base's emotion number `start` shows. `recognised`: share of the clips whose mean true expression is nearer to that
    of the new emotion than to those of all emotions of the base, for the same sound.
    """
    device = model.a2et.device
    generator = torch.Generator().manual_seed(0)
    errors, errors_before, right = [], [], []
    for number in pool[:clips]:
        clip = data.clips[number]
        latent = torch.randn(1, model.mapper.config.latent, generator=generator).to(device)
        batch = {name: value[None].to(device) for name, value in data.windows(clip, np.arange(len(clip.mel))).items()}

        def show(network: EmotionalA2ET, emotion: int, batch=batch, latent=latent) -> Tensor:
            return network(batch | {"emotion": torch.tensor([emotion], device=device)}, latent)[0][0].cpu()

        known = [show(before, emotion) for emotion in range(len(before.mapper.config.emotions))]
        new = show(model, 0)
        errors.append(keypoint_error(clip, new))
        errors_before.append(keypoint_error(clip, known[start]))
        truth = clip.expression.mean(0)
        distances = torch.stack([(expression.mean(0) - truth).norm() for expression in (new, *known)])
        right.append(int(distances.argmin()) == 0)
    return {
        "keypoints_px": float(np.mean(errors)),
        "keypoints_before_px": float(np.mean(errors_before)),
        "recognised": float(np.mean(right)),
    }


def train_adapter(options: EmotionOptions) -> None:
    """Learn a new emotion on top of a finished model, and save it in `output_dir`/adapter.

    Raises:
        UserError: the base, the emotion it starts from, the adapter's name or the clips cannot be used.
    """
    pipeline = EATPipeline.from_pretrained(find_model(options.base))
    adapter = EmotionAdapter.create(pipeline.base, [options.adapter], options.start)
    pipeline.add_adapter(adapter)
    own, adapted = pipeline.adaptations
    if pipeline.speech_encoder is None:
        raise UserError(f"{options.base} has no speech encoder, so it cannot learn from clips.")
    hears = pipeline.speech_encoder, pipeline.keypoint_detector, pipeline.a2et.config.pose_size
    with main_process_first():
        pools = {split: clips_of(options.adapter, options.corpus, split) for split in ("train", "validation")}
        if not pools["train"]:
            raise UserError(f"{options.corpus} has no clips of {options.adapter}, or of no named emotion, to train on.")
        splits = {
            split: MotionData(options.corpus, split, *hears, pipeline.expression_basis.config.hull_volume_exponent)
            for split, pool in pools.items()
            if pool
        }
        if options.compare_pictures():
            splits["train"].pictures = ClipPictures(options.corpus, "train")
    data, pool = splits["train"], pools["train"]
    data.least_certain = options.least_certain

    torch.manual_seed(options.seed)
    basis = pipeline.expression_basis
    before = EmotionalA2ET(own.a2et, own.emotion_mapper, own.edn, basis, False, False)
    model = EmotionalA2ET(adapted.a2et, adapted.emotion_mapper, adapted.edn, basis, options.edn, options.eam)
    model.mapper.requires_grad_(False)
    model.mapper.heads.requires_grad_(True)
    pictures = None
    if data.pictures:
        check_pictures(options.corpus, data.pictures, pool)
        frame = pipeline.expression_basis.config.expression_frame
        networks = Reenactment(pipeline.keypoint_detector, pipeline.motion_estimator, adapted.repos_net, frame)
        pictures = make_picture_terms(options, networks, options.frames)
        adapted.repos_net.volume_eam.requires_grad_(options.eam)

    def draw(rng: np.random.Generator, count: int) -> Batch:
        batch = data.draw(rng, count, options.frames, pool) | {"emotion": torch.zeros(count, dtype=torch.long)}
        return weigh_pictures(batch) | {"latent": torch.randn(count, model.mapper.config.latent)}

    def evaluate_splits() -> dict[str, float]:
        before.to(model.a2et.device).eval()
        given = model, before, own.emotions.index(options.start)
        return {
            f"{split}_{name}": value
            for split, found in splits.items()
            for name, value in evaluate_adapter(*given, found, pools[split], options.evaluation_clips).items()
        }

    task = EmotionTask(model, LatentTerms.of(options, data.keypoint_names), pictures)
    results = train(task, draw, options, {}, evaluate_splits)
    if PartialState().is_main_process:
        output = Path(options.output_dir)
        record = json.loads((output / "results.json").read_text())["training"]
        people = len({data.clips[number].identity for number in pool})
        facts = {"clips": len(pool), "people": people, "start": options.start, **record, **results}
        EmotionAdapter(adapter.config.changed(training=facts), adapter.parts).save(output / "adapter")


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(EmotionOptions, "emotion", argv)
    if options.adapter:
        train_adapter(options)
        return
    runs = Path(options.runs)
    if options.prompts == "none" and not options.edn and not options.eam:
        raise UserError("Without prompts, EDN and EAM nothing is left to learn: that is the A2ET of stage 1.")
    initial = options.initial or runs / "a2et/a2et"
    data, held_out = load_data(options, recipe, A2ET.load_config(initial)["pose_size"])
    torch.manual_seed(options.seed)
    a2et = A2ET.from_pretrained(initial)
    edn = recipe.build("edn")
    edn.initialise_from_a2et(a2et)
    prompts: dict[str, Any] = {"prompts": PROMPTS[options.prompts]} if options.prompts in PROMPTS else {}
    model = EmotionalA2ET(
        a2et,
        recipe.build("emotion_mapper", **prompts),
        edn,
        ExpressionBasis.from_pretrained(runs / "pca/expression_basis"),
        options.edn,
        options.eam,
    )
    components = {"a2et": model.a2et, "edn": model.edn, "emotion_mapper": model.mapper}
    pictures = load_picture_terms(options, runs, recipe, options.frames)
    if pictures:
        components["repos_net"] = pictures.networks.repos_net
        pictures.networks.repos_net.volume_eam.requires_grad_(options.eam)
    side = contempt_side(data, options.min_level) if options.one_sided_contempt else 0
    pools, pools_held_out = (by_emotion(split, options.min_level, side) for split in (data, held_out))
    for found, split in ((pools, "train"), (pools_held_out, "validation")):
        missing = [name for name, numbers in zip(EMOTIONS, found, strict=True) if not numbers]
        if missing:
            raise UserError(
                f"{options.corpus} has no clips that show {', '.join(missing)} in its split {split}; stage 2 learns "
                "all emotions."
            )
    pools = choose_share(pools, options.data_share, options.seed)
    if data.pictures:
        check_pictures(options.corpus, data.pictures, sum(pools, []))

    def draw(rng: np.random.Generator, count: int) -> Batch:
        emotions = rng.permutation(np.arange(count) % len(EMOTIONS))
        batches = [data.draw(rng, 1, options.frames, pools[emotion]) for emotion in emotions]
        batch = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        return weigh_pictures(batch) | {"latent": torch.randn(count, model.mapper.config.latent)}

    train(
        EmotionTask(model, LatentTerms.of(options, data.keypoint_names), pictures),
        draw,
        options,
        components,
        lambda: evaluate(model, held_out, pools_held_out, options.evaluation_clips),
    )


if __name__ == "__main__":
    run_script(main)
