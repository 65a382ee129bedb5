"""Do emotions that are asked for in words look like it? On people and in phrasings that no training has seen.

    python -m training.experiments.text --corpus corpus_test --unit_judge runs/unit_judge/unit_judge \\
        --output outputs/words

Twelve expressions are asked for, at once (`emotion_text`) and tuned with CLIP (`learn_emotion`) on one person, and
shown on that person and on others. The judge is none of the networks that took part: it reads ARKit's units off the
frames (`training.judges.train_units`). What an expression changes is its mean reading less that of the neutral clip,
with the same sound and the same head motion, so that words and pose cancel.

    units moved     how much of the expression that was asked for is there: the change's part along it, 1 is all
    alike           cosine of the change and the expression that was asked for
    recognised      of the twelve, the one that was asked for is the nearest to the change

The units are right if at least `MOVED` of the expression is there and `ALIKE` of the change is it; for no emotion, if
less is moved than half of the weakest of the others. Beside it stand dlib's descriptors (the same person?), and the
test clips of the eight emotions, made by name and in words, measured against the real ones as everywhere (M-LMD).

Adapters and videos are kept, so the same line, given again, goes on where it was.
"""

import json
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from transformers import ResNetForImageClassification

from eat_hf import EATPipeline
from eat_hf.adapters.emotion_adapter import EmotionAdapter
from eat_hf.adapters.tuning import LearningOptions, LearningStep
from eat_hf.constants import EMOTIONS, FPS, SAMPLING_RATE
from eat_hf.errors import UserError
from eat_hf.evaluation import evaluate, merge
from eat_hf.evaluation.metrics.identity import cosine_similarity, describe_faces
from eat_hf.evaluation.report.results import EvaluationReport
from eat_hf.evaluation.tracks import track_faces
from eat_hf.hub.cards import slug
from eat_hf.media.files import write_atomically

from ..corpus.captions import PLAIN, WEAK, make_wish
from ..data.dataset import Clip, Corpus
from ..judges.train_units import read_units
from ..loop.command_line import parse_options, run_script
from .contact_sheet import draw_sheet
from .reproduce import choose_clips, clip_name, copy_truth

MOVED, ALIKE = 0.25, 0.5
DESCRIBED = 3  # frames a clip, for dlib's descriptors
AT_ONCE, TUNED, NAMED = "in words, at once", "in words, tuned", "by name"
PROTOCOL = "eat_official"

# name, what a sentence that nobody learnt from says, and what that is to the corpus
EXPRESSIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "angry": ("The woman talks and is furious.", (("angry", PLAIN),)),
    "contempt": ("the face of a contemptuous person", (("contempt", PLAIN),)),
    "disgusted": ("He talks and is disgusted.", (("disgusted", PLAIN),)),
    "fear": ("the face of a frightened person", (("fear", PLAIN),)),
    "happy": ("She talks and is happy.", (("happy", PLAIN),)),
    "neutral": ("a person with an expression of calm", (("neutral", PLAIN),)),
    "sad": ("He talks and is sad.", (("sad", PLAIN),)),
    "surprised": ("the face of an astonished person", (("surprised", PLAIN),)),
    "crying hard": ("She talks, crying hard.", (("crying", 1.0),)),
    "a little smile": ("a talking face with a little smile", (("smile", WEAK),)),
    "raised eyebrows": ("She talks with raised eyebrows.", (("brows_raised", PLAIN),)),
    "nose wrinkled": ("a talking person wrinkling the nose", (("nose_wrinkled", PLAIN),)),
}


@dataclass
class WordsCheckOptions:
    """Options."""

    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline folder with words."})
    corpus: str = field(default="corpus_test", metadata={"help": "Its test split gives people, sounds and clips."})
    unit_judge: str = field(default="runs/unit_judge/unit_judge", metadata={"help": "Judge of facial units."})
    people: int = field(default=3, metadata={"help": "Of the test split; expressions are tuned on the first."})
    frames: int = field(default=40, metadata={"help": "Of the clips that are judged, 25 a second."})
    steps: int = field(default=LearningOptions.steps, metadata={"help": "Of tuning; 0: at once alone."})
    clips_per_emotion: int = field(default=2, metadata={"help": "Test clips that are made by name and in words."})
    output: str = field(default="outputs/words", metadata={"help": "Folder of adapters, videos and results."})
    seed: int = field(default=0, metadata={"help": "Of head motion, prompts and tuning."})
    size: int = field(default=160, metadata={"help": "Side of a picture on the page."})


def wished(expression: str) -> np.ndarray:
    """(52,) what the corpus means by an expression."""
    return make_wish(EXPRESSIONS[expression][1]).arkit


# Making ---------------------------------------------------------------------------------------------------------------


def learn(pipe: EATPipeline, expression: str, portrait: np.ndarray, sound: np.ndarray, options) -> dict[str, Any]:
    """Tune an expression on a portrait, unless that is done; what was reached, and how long it took."""
    folder = Path(options.output) / "adapters" / slug(expression)
    record = folder.with_suffix(".json")
    if record.exists():
        return json.loads(record.read_text())
    seen: list[LearningStep] = []
    start = time.perf_counter()
    adapter = pipe.with_adapters().learn_emotion(
        EXPRESSIONS[expression][0],
        portrait,
        (sound, SAMPLING_RATE),
        adapter_name(expression),
        options=LearningOptions(steps=options.steps),
        generator=options.seed,
        watch=seen.append,  # returns None: go on
    )
    seconds = time.perf_counter() - start
    adapter.save(folder)
    similarity = {reached.looked: reached.similarity for reached in seen}
    facts = {"seconds": round(seconds, 1), "similarity": [similarity[0], seen[-1].best], "steps": seen[-1].step}
    write_atomically(record, json.dumps(facts | {"clip": adapter.config.training["clip"]}))
    return facts


def adapter_name(expression: str) -> str:
    """Not that of one of the eight emotions, which are there already."""
    return f"{expression} in words"


def adapters_of(pipe: EATPipeline, way: str, output: Path) -> dict[str, EmotionAdapter]:
    """Every expression as an adapter."""
    made = {}
    for expression, (text, _) in EXPRESSIONS.items():
        if way == AT_ONCE:
            made[expression] = pipe.text_adapter(text, adapter_name(expression))
        else:
            made[expression] = EmotionAdapter.load(output / "adapters" / slug(expression), pipe.base)
    return made


# Judging --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What judges saw in a clip.

    Attributes:
        units: (F, 52) read off every frame.
        same: mean cosine of dlib's descriptors of some frames with the portrait's, None without a face.
        picture: (256, 256, 3) uint8, one of the frames.
    """

    units: np.ndarray
    same: float | None
    picture: np.ndarray


@torch.no_grad()
def look_at(frames: np.ndarray, judge: ResNetForImageClassification, portrait: np.ndarray) -> Seen:
    """frames (F, 256, 256, 3) uint8, portrait (1, 128) its descriptor."""
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    units = torch.cat([read_units(judge, part) for part in pictures.split(16)]).numpy()
    some = frames[np.linspace(0, len(frames) - 1, DESCRIBED).round().astype(int)]
    track = track_faces(some)
    described = describe_faces(some[track.found], track.landmarks[track.found])
    same = float(cosine_similarity(described, portrait).mean()) if len(described) else None
    return Seen(units, same, frames[len(frames) // 2])


def judge_change(change: np.ndarray, expression: str) -> dict[str, Any]:
    """What a change (52,) of units says about an expression that was asked for."""
    target = wished(expression)
    distances = {other: float(np.linalg.norm(change - wished(other))) for other in EXPRESSIONS}
    seen = min(distances, key=distances.__getitem__)
    found: dict[str, Any] = {"change": float(np.linalg.norm(change)), "seen": seen, "recognised": seen == expression}
    if not target.any():
        weakest = min(float(np.linalg.norm(wished(other))) for other in EXPRESSIONS if wished(other).any())
        return found | {"moved": None, "alike": None, "right": found["change"] < weakest / 2}
    moved = float(change @ target / (target @ target))
    alike = float(change @ target / (np.linalg.norm(change) * np.linalg.norm(target) + 1e-9))
    return found | {"moved": moved, "alike": alike, "right": moved >= MOVED and alike >= ALIKE}


# Running it -----------------------------------------------------------------------------------------------------------


def show_expressions(
    pipe: EATPipeline, judge: ResNetForImageClassification, people: dict[str, Clip], ways: list[str], options
) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    """Every expression on everybody. Returns {way: {expression: {person: verdict}}}, and rows of the page."""
    output = Path(options.output)
    adapters = {way: adapters_of(pipe, way, output) for way in ways}
    verdicts: dict[str, Any] = {way: {expression: {} for expression in EXPRESSIONS} for way in ways}
    pages: dict[str, list[np.ndarray]] = {expression: [] for expression in EXPRESSIONS}
    for person, clip in people.items():
        portrait = clip.portrait()
        track = track_faces(portrait[None])
        descriptor = describe_faces(portrait[None], track.landmarks)
        sound = clip.waveform()[: options.frames * SAMPLING_RATE // FPS], SAMPLING_RATE

        def show(view: EATPipeline, emotion: str, given=(portrait, sound, descriptor)) -> Seen:
            face, voice, known = given
            out = view(face, voice, emotion, generator=options.seed, align=False)
            return look_at(np.asarray(out.frames), judge, known)

        calm = show(pipe, "neutral")
        for expression in tqdm(EXPRESSIONS, person):
            pages[expression].append(calm.picture)
            for way in ways:
                view = pipe.with_adapters({"asked": adapters[way][expression]})
                seen = show(view, adapter_name(expression))
                verdict = judge_change((seen.units - calm.units).mean(0), expression)
                unlike = None if seen.same is None or calm.same is None else calm.same - seen.same
                verdicts[way][expression][person] = verdict | {"identity_drop": unlike}
                pages[expression].append(seen.picture)
    return verdicts, pages


def compare_lips(pipe: EATPipeline, ways: list[str], options) -> EvaluationReport:
    """Test clips of the eight emotions by name and in words, against the real ones."""
    output = Path(options.output)
    known, clips = choose_clips(options.corpus), []
    for emotion in EMOTIONS:
        # words ask for the middle level
        of_it = [clip for clip in known if clip.emotion == emotion and clip.level in (0, 2)]
        clips += [of_it[n] for n in np.linspace(0, len(of_it) - 1, options.clips_per_emotion).astype(int)]
    truth = output / "truth"
    copy_truth(clips, truth)
    adapters = {way: adapters_of(pipe, way, output) for way in ways}
    reports = []
    for way in (NAMED, *ways):
        folder = output / "clips" / slug(way)
        folder.mkdir(parents=True, exist_ok=True)
        for clip in tqdm(clips, way):
            path = folder / f"{clip_name(clip)}.mp4"
            if path.exists():
                continue
            view, emotion = pipe, clip.emotion
            if way != NAMED:
                view, emotion = pipe.with_adapters({"asked": adapters[way][emotion]}), adapter_name(emotion)
            sound = clip.waveform()[: clip.length * SAMPLING_RATE // FPS], SAMPLING_RATE
            video = clip.folder / clip.metadata["file_name"]
            out = view(clip.portrait(), sound, emotion, 1.0, video, generator=options.seed, align=False)
            out.save(path, watermark=False)
        reports.append(evaluate(folder, truth, (PROTOCOL,), name=way, fid_backbone="none").report)
    return merge(reports, "emotions by name and in words")


def check_words(options: WordsCheckOptions) -> tuple[dict[str, Any], dict[str, list[np.ndarray]]]:
    """Everything that was measured, and rows of the page.

    Raises:
        UserError: model, corpus or judge cannot be used.
    """
    pipe = EATPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    if pipe.text_to_emotion is None:
        raise UserError(f"{options.model} came without words.")
    if not (Path(options.unit_judge) / "config.json").exists():
        raise UserError(f"There is no judge in {options.unit_judge}; train it with training.judges.train_units.")
    judge = ResNetForImageClassification.from_pretrained(options.unit_judge).eval()
    neutral = [c for c in Corpus(options.corpus).clips(split="test", kind="speech") if c.emotion == "neutral"]
    spoken = {clip.identity: clip for clip in reversed(neutral) if clip.metadata["text"]}
    chosen = sorted(spoken)[: options.people]
    if len(chosen) < options.people:
        raise UserError(f"{options.corpus} has {len(chosen)} people with neutral clips, not {options.people}.")
    people = {f"unseen {identity}": spoken[identity] for identity in chosen}
    ways, tuning = [AT_ONCE], {}
    if options.steps:
        ways.append(TUNED)
        first = spoken[chosen[0]]
        for expression in tqdm(EXPRESSIONS, "learn"):
            tuning[expression] = learn(pipe, expression, first.portrait(), first.waveform(), options)
    verdicts, pages = show_expressions(pipe, judge, people, ways, options)
    found: dict[str, Any] = {"options": asdict(options), "people": list(people), "tuning": tuning, "verdicts": verdicts}
    if options.clips_per_emotion:
        report = compare_lips(pipe, ways, options)
        found["clips"] = {
            method.name: {key: score.value for key, score in method.protocols[PROTOCOL].metrics.items()}
            for method in report.methods
        }
    found["threads"] = torch.get_num_threads()
    return found, pages


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """{way: counts and means of what the issue of words comes down to}."""
    sums = {}
    for way, expressions in found["verdicts"].items():
        first, *others = found["people"]
        right = [each[first]["right"] and each[first]["recognised"] for each in expressions.values()]
        elsewhere = [
            np.mean([each[person]["right"] and each[person]["recognised"] for person in others]) >= 0.5
            for each in expressions.values()
        ]
        drops = [
            verdict["identity_drop"]
            for each in expressions.values()
            for verdict in each.values()
            if verdict["identity_drop"] is not None
        ]
        sums[way] = {
            "right_and_recognised": int(sum(right)),
            "right_and_recognised_on_most_others": int(sum(elsewhere)),
            "units_right": int(sum(each[first]["right"] for each in expressions.values())),
            "mean_identity_drop": float(np.mean(drops)) if drops else None,
            "largest_identity_drop": max(drops, default=None),
        }
    return sums


def print_tables(found: dict[str, Any]) -> None:
    console = Console(width=150)
    for way, expressions in found["verdicts"].items():
        table = Table(title=way, title_justify="left")
        for name in ("expression", "asked for as", *found["people"], "seconds"):
            table.add_column(name)
        for expression, people in expressions.items():
            cells = []
            for verdict in people.values():
                moved = "–" if verdict["moved"] is None else f"{verdict['moved']:.2f} {verdict['alike']:.2f}"
                cells.append(f"{moved} {'✓' if verdict['right'] else '✗'} {verdict['seen']}")
            seconds = found["tuning"].get(expression, {}).get("seconds", "") if way == TUNED else ""
            table.add_row(expression, EXPRESSIONS[expression][0], *cells, str(seconds))
        console.print(table)
    console.print_json(json.dumps({"summary": summary(found), "clips": found.get("clips", {})}))


def main(argv: list[str] | None = None) -> None:
    options, _ = parse_options(WordsCheckOptions, "check_words", argv)
    warnings.simplefilter("ignore")  # about whose CLIP judges, twelve times
    found, pages = check_words(options)
    print_tables(found)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "words.json", json.dumps(found | {"summary": summary(found)}, indent=1) + "\n")
    ways = list(found["verdicts"])
    columns = [f"{person}, {way}".replace("in words, ", "") for person in found["people"] for way in ("neutral", *ways)]
    draw_sheet(pages, columns, options.size).save(output / "words.png", optimize=True)


if __name__ == "__main__":
    run_script(main)
