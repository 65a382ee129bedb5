"""Measure a checkpoint on the corpus' test split, like the paper's Table 1, and write the tables into its model card.

    python -m training.experiments.reproduce --model checkpoints_card/eat-demo

People, sentences and voices are those of the test split, which no network was trained on, the judges neither. Every
clip is generated from a neutral picture of the person in the same place, the clip's sound, and the head motion that the
checkpoint itself reads off the real clip. Side by side stand

    ground truth                    the real clips, put through the same judges
    A2ET (stage 1, no emotion)      before emotional adaptation
    EAT                             with the clip's emotion, at intensity 1
    RePos-Net (true keypoints)      the renderer alone, driven by the keypoints of every real frame

The card gets the tables, the same by groups of people, and the first protocol's numbers in its front matter, where the
Hub reads them. Videos are kept, so an interrupted run goes on where it was.
"""

import json
import math
import os
import re
import shutil
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from huggingface_hub.utils import disable_progress_bars
from tqdm import tqdm

from eat_hf import EATPipeline
from eat_hf.animation.portrait import to_pixel_values
from eat_hf.animation.reenactment import Reenactment
from eat_hf.animation.rendering import render_frames
from eat_hf.constants import SAMPLING_RATE
from eat_hf.errors import UserError
from eat_hf.evaluation import evaluate, markdown_table, merge, write_page
from eat_hf.evaluation.report.page import Figure
from eat_hf.evaluation.report.results import EvaluationReport, MethodResults, Tuning
from eat_hf.hub.cards import with_results
from eat_hf.media.files import write_atomically
from eat_hf.media.videos import write_video
from eat_hf.models.parameters import parameter_shares

from ..corpus.build import Plan, build_corpus, person_of
from ..data.dataset import Clip, Corpus
from ..loop.command_line import parse_options, run_script
from .groups import CHANCE, group_table, groups_of

STAGE_1, EAT, RENDERER = "A2ET (stage 1, no emotion)", "EAT", "RePos-Net (true keypoints)"
BEGIN, END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"


@dataclass
class ReproduceOptions:
    """Options."""

    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline folder."})
    corpus: str = field(default="corpus_test", metadata={"help": "Test split; rendered there if it is missing."})
    identities: int = field(default=140, metadata={"help": "Of the corpus the checkpoint was trained on."})
    corpus_seed: int = field(default=0, metadata={"help": "Of that corpus."})
    clips_per_identity: int = field(default=10, metadata={"help": "Speech clips of every test identity."})
    clips: int = field(default=0, metadata={"help": "Only so many clips, spread over all; 0 for all."})
    output: str = field(default="outputs/reproduce", metadata={"help": "Folder of videos and the HTML page."})
    fid_backbone: str = field(default="dlib_resnet", metadata={"help": "See `eat-hf evaluate --fid-backbone`."})
    workers: int = field(default=2, metadata={"help": "Processes."})
    seed: int = field(default=0, metadata={"help": "Of the prompts."})


def plan_of(options: ReproduceOptions) -> Plan:
    """The test split of the corpus that the checkpoint was trained on."""
    speech, folder = options.clips_per_identity, Path(options.corpus)
    return Plan(folder, options.identities, speech, 0, options.corpus_seed, splits=("test",))


def clip_name(clip: Clip) -> str:
    """Names the emotion, which the evaluation reads from it."""
    return f"{clip.name}_{clip.emotion}_{clip.level}"


_worker: dict[str, EATPipeline] = {}


def prepare_worker(model: str) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    disable_progress_bars()
    pipe = EATPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    _worker["pipe"] = pipe


def choose_clips(corpus: str, count: int = 0) -> list[Clip]:
    """Test clips in which somebody says something; `count` of them, spread over all, or all for 0."""
    clips = [clip for clip in Corpus(corpus).clips(split="test", kind="speech") if clip.metadata["text"]]
    if not clips:
        raise UserError(f"{corpus} has no spoken clips in its split test.")
    return [clips[i] for i in np.linspace(0, len(clips) - 1, count).astype(int)] if count else clips


def copy_truth(clips: list[Clip], folder: Path) -> None:
    """The real videos and their sound, and nothing else, into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for clip in clips:
        shutil.copy(clip.folder / clip.metadata["file_name"], folder / f"{clip_name(clip)}.mp4")
        shutil.copy(clip.folder / clip.metadata["wav"], folder / f"{clip_name(clip)}.wav")


def generate(model: str, clips: list[Clip], folders: dict[str, Path], seed: int, workers: int) -> None:
    """Videos of all clips that are not there yet, into a folder for every method, in worker processes."""
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    tasks = [(clip, folders, seed) for clip in clips]
    with ProcessPoolExecutor(workers, get_context("spawn"), prepare_worker, (model,)) as pool:
        list(tqdm(pool.map(generate_clip, tasks), "generate", len(tasks)))


@torch.no_grad()
def generate_clip(task: tuple[Clip, dict[str, Path], int]) -> None:
    """The videos of one clip, in the folders of their methods."""
    clip, folders, seed = task
    pipe = _worker["pipe"]
    sound = clip.waveform()[: clip.length * SAMPLING_RATE // 25]
    for method, folder in folders.items():
        path = folder / f"{clip_name(clip)}.mp4"
        if path.exists():
            continue
        if method == RENDERER:
            frames = reenact(pipe, clip.portrait(), clip.frames())
            write_video(path, frames, sound[None], SAMPLING_RATE, watermark=False)  # measured as they were made
        else:
            emotion = clip.emotion if method == EAT else None
            video = clip.folder / clip.metadata["file_name"]
            out = pipe(
                clip.portrait(), (sound, SAMPLING_RATE), emotion, 1.0, video, generator=seed, align=False, size=256
            )
            out.save(path, watermark=False)


@torch.no_grad()
def reenact(pipe: EATPipeline, picture: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """A portrait moved to the keypoints found in every frame (T, 256, 256, 3) uint8, of the same shape.

    Where the detector finds canonical keypoints, they are the portrait's own, posed as every frame is (Eq. 1).
    """
    portrait = pipe.prepare_portrait(picture, align=False)
    frame = pipe.expression_basis.config.expression_frame
    networks = Reenactment(pipe.keypoint_detector, pipe.motion_estimator, pipe.repos_net, frame)
    batches = to_pixel_values(torch.from_numpy(frames)).split(8)
    driving = torch.cat([networks.keypoints_of_moved(batch, portrait.canonical) for batch in batches])
    return np.concatenate(list(render_frames(pipe.repos_net, portrait, driving[None], None)))


def describe_tuning(model: Path) -> Tuning | None:
    """How long emotional adaptation took, if the checkpoint's training.json says so."""
    path = model / "training.json"
    record = json.loads(path.read_text()).get("emotion", {}).get("training") if path.exists() else None
    return Tuning(record["seconds"] / 3600, record["device"]) if record else None


def _method(report: EvaluationReport) -> MethodResults:
    return next(method for method in report.methods if method.name == EAT)


def results_of(report: EvaluationReport) -> tuple[dict[str, float], str]:
    """The finite scores of EAT, by the names that readers know, and on what they were measured."""
    protocol, found = report.protocols[0], {}
    for metric in report.metrics(protocol):
        score = _method(report).value(protocol, metric.key)
        if score and score.value is not None and math.isfinite(score.value):
            found[f"{metric.name} ({metric.unit})" if metric.unit else metric.name] = round(score.value, metric.digits)
    return found, f"test split of the synthetic corpus, protocol {protocol}"


def refresh_card(card: Path, report: EvaluationReport, command: str, by_groups: str = "") -> None:
    """Put the tables between the card's markers, and the results of EAT into its front matter."""
    text = with_results(card.read_text(encoding="utf8"), *results_of(report))
    parts = [f"`{command}`, {len(report.methods[0].clips)} clips of the test split. {' '.join(report.notes)}"]
    for protocol in report.protocols:
        parts.append(f"Protocol `{protocol}`:\n\n{markdown_table(report, protocol).strip()}")
    emotions = {method.name: method.emotions for method in report.methods if method.emotions}
    names = next(iter(emotions.values())).classes
    lines = ["| emotion seen as asked for, % | " + " | ".join(names) + " |", "|:--|" + "--:|" * len(names)]
    for method, seen in emotions.items():
        cells = ("–" if seen.recall[name] is None else f"{seen.recall[name]:.0f}" for name in names)
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    parts.append("\n".join(lines))
    if by_groups:
        parts.append(f"`{EAT}` by groups of people, protocol `{report.protocols[0]}`. {CHANCE}\n\n{by_groups}")
    body = "\n\n".join(parts)
    fresh, count = re.subn(
        re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n\n{body}\n\n{END}", text, flags=re.DOTALL
    )
    if not count:
        raise UserError(f"{card} has no place for the tables; put {BEGIN} and {END} where they belong.")
    write_atomically(card, fresh)


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    options, _ = parse_options(ReproduceOptions, "reproduce", argv)
    output = Path(options.output)
    build_corpus(plan_of(options), options.workers)
    clips = choose_clips(options.corpus, options.clips)
    truth = output / "ground truth"
    copy_truth(clips, truth)
    folders = {method: output / method for method in (STAGE_1, EAT, RENDERER)}
    generate(options.model, clips, folders, options.seed, options.workers)

    pipe = EATPipeline.from_pretrained(options.model)
    reports = []
    figures: dict[str, Figure] = {}
    command = "python -m training.experiments.reproduce " + " ".join(argv)
    for name in (RENDERER, STAGE_1, EAT):  # a report's page puts the last one first
        made = evaluate(
            output / name,
            truth,
            name=name,
            fid_backbone=options.fid_backbone,
            parameters=parameter_shares(pipe.components) if name == EAT else (),
            tuning=describe_tuning(Path(options.model)) if name == EAT else None,
            workers=options.workers,
            command=command.strip(),
        )
        reports.append(made.report)
        for figure in made.figures:
            known = figures.get(figure.clip)
            figures[figure.clip] = replace(known, rows=(*known.rows, figure.rows[1])) if known else figure
    report = merge(reports, f"{Path(options.model).name} on the test split of the synthetic corpus")
    report.save(output / "report.json")
    write_page(report, output / "report.html", figures.values())
    summary = replace(report, methods=tuple(replace(method, clips=()) for method in report.methods))
    summary.save(Path(options.model) / "measured.json")
    people = {clip_name(clip): clip.metadata["identity"] for clip in clips}
    groups = {identity: groups_of(person_of(plan_of(options), identity)) for identity in set(people.values())}
    by_groups = group_table(_method(report), report.protocols[0], people, groups)
    refresh_card(Path(options.model) / "README.md", report, command.strip(), by_groups)
    print(f"{output / 'report.html'}, {output / 'report.json'} and the card of {options.model} are written.")


if __name__ == "__main__":
    run_script(main)
