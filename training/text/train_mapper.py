"""Emotions from words at once: a text mapper, with an EDN and EAMs that show whatever prompts it makes.

    python -m training.corpus.build --output corpus_wishes --expression wishes ...
    accelerate launch -m training.text.train_mapper --corpus corpus_wishes --clip runs/clip/clip --output_dir runs/words

Stage 2 again, on top of a finished and frozen model, with sentences in place of the eight emotions: every clip of the
corpus shows what a wish asks for, and a step says it in words of its own. The result is the folder `words` of a model.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor, nn

from eat_hf import EATPipeline
from eat_hf.adapters.clip import CLIP
from eat_hf.adapters.emotion_adapter import EmotionAdapter
from eat_hf.adapters.from_text import TextToEmotion
from eat_hf.errors import UserError
from eat_hf.models.text_mapper import TextMapper
from eat_hf.pipeline.bundled import find_model

from ..corpus.captions import PLAIN, Wish, make_wish, say_wish
from ..data.dataset import Corpus
from ..data.motion import MotionData, keypoint_error
from ..loop.command_line import parse_options, run_script
from ..loop.options import Batch, LatentOptions, Losses
from ..loop.trainer import main_process_first, train
from ..losses.emotional_a2et import EmotionalA2ET
from ..losses.latent import LatentTerms


@dataclass
class WordsOptions(LatentOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus_wishes", metadata={"help": "Corpus of wishes."})
    base: str = field(default="checkpoints_card/eat-demo", metadata={"help": "The model: folder or Hub id."})
    clip: str = field(default="runs/clip/clip", metadata={"help": "CLIPModel whose text embeddings are read."})
    frames: int = field(default=6, metadata={"help": "Frames drawn from each clip."})


class WordsTask(nn.Module):
    """The keypoint term of Eq. 6, with prompts that a text mapper makes of a sentence."""

    def __init__(self, model: EmotionalA2ET, latents: LatentTerms):
        super().__init__()
        self.model, self.latents = model, latents

    def expression(self, batch: Batch) -> Tensor:
        """(B, F, 3K) in units of V ** p."""
        return self.model.show(batch, self.model.mapper(batch["text"]).prompts)

    def forward(self, batch: Batch) -> Losses:
        return self.latents(self.expression(batch), batch)


def wishes_of(corpus_dir: str, split: str) -> list[Wish]:
    """What every speech clip of a split shows.

    Raises:
        UserError: it is no corpus of wishes.
    """
    clips = Corpus(corpus_dir).clips(split=split, kind="speech")
    if not clips or "wish" not in clips[0].metadata:
        raise UserError(f"{corpus_dir} does not say what its clips show; make it with --expression wishes.")
    return [make_wish(tuple((name, strength) for name, strength in clip.metadata["wish"][0])) for clip in clips]


@torch.no_grad()
def evaluate(
    task: WordsTask, clip: CLIP, data: MotionData, wishes: list[Wish], clips: int = 40, others: int = 7
) -> dict[str, float]:
    """On held-out people, in held-out phrasings.

    `keypoints_px`: mean distance, pixels of the 256 frame, of keypoints; `keypoints_if_neutral_px`: the same for a
    sentence that asks for no emotion. `recognised`: share of clips whose mean true expression is nearer to that of
    their own sentence than to those of seven sentences of other clips, for the same sound.
    """
    rng = np.random.default_rng(0)
    device = task.model.a2et.device
    errors, errors_neutral, right = [], [], []
    neutral = make_wish((("neutral", PLAIN),))
    for number in range(min(clips, len(data.clips))):
        motion = data.clips[number]
        batch = {
            name: value[None].to(device) for name, value in data.windows(motion, np.arange(len(motion.mel))).items()
        }
        rest = np.delete(np.arange(len(wishes)), number)
        rest = rng.choice(rest, min(others, len(rest)), replace=False)
        asked = [wishes[number], neutral, *(wishes[n] for n in rest)]
        shown = [
            task.expression(batch | {"text": clip.embed_text(say_wish(wish, rng, "test")).to(device)})[0].cpu()
            for wish in asked
        ]
        errors.append(keypoint_error(motion, shown[0]))
        errors_neutral.append(keypoint_error(motion, shown[1]))
        truth = motion.expression.mean(0)
        distances = [(expression.mean(0) - truth).norm().item() for expression in (shown[0], *shown[2:])]
        right.append(int(np.argmin(distances)) == 0)
    return {
        "keypoints_px": float(np.mean(errors)),
        "keypoints_if_neutral_px": float(np.mean(errors_neutral)),
        "recognised": float(np.mean(right)),
    }


def main(argv: list[str] | None = None) -> None:
    options, recipe = parse_options(WordsOptions, "words", argv)
    pipeline = EATPipeline.from_pretrained(find_model(options.base))
    if pipeline.speech_encoder is None:
        raise UserError(f"{options.base} has no speech encoder, so it cannot learn from clips.")
    clip = CLIP.load(options.clip)
    hears = pipeline.speech_encoder, pipeline.keypoint_detector, pipeline.a2et.config.pose_size
    with main_process_first():
        wishes = {split: wishes_of(options.corpus, split) for split in ("train", "validation")}
        exponent = pipeline.expression_basis.config.hull_volume_exponent
        data, held_out = (MotionData(options.corpus, split, *hears, exponent) for split in wishes)
    data.least_certain = options.least_certain
    torch.manual_seed(options.seed)
    shows = EmotionAdapter.create(pipeline.base, ["words"], "neutral", {"corpus": "wishes"})
    prompts = pipeline.emotion_mapper.config
    mapper = TextMapper(
        embedding=clip.model.config.projection_dim,
        prompts=prompts.prompts,
        width=prompts.width,
        **recipe.components["text_mapper"],
    )
    adapted = shows.adapt(pipeline)
    model = EmotionalA2ET(adapted.a2et, mapper, adapted.edn, pipeline.expression_basis)
    task = WordsTask(model, LatentTerms.of(options, data.keypoint_names))

    def draw(rng: np.random.Generator, count: int) -> Batch:
        numbers = rng.integers(len(data.clips), size=count)
        batches = [data.draw(rng, 1, options.frames, [int(number)]) for number in numbers]
        batch = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
        said = [clip.embed_text(say_wish(wishes["train"][number], rng)) for number in numbers]
        return batch | {"text": torch.cat(said)}

    train(
        task,
        draw,
        options,
        {"text_mapper": mapper},
        lambda: evaluate(task, clip, held_out, wishes["validation"]),
    )
    if PartialState().is_main_process:
        TextToEmotion(clip, mapper, shows).save(Path(options.output_dir) / "words")


if __name__ == "__main__":
    run_script(main)
