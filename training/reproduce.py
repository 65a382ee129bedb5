"""Measure a checkpoint on the corpus' test split, like the paper's Table 1, and write the tables into its model card.

    python -m training.reproduce --model checkpoints_card/eat-demo

People, sentences and voices are those of the test split, which no network was trained on, the judges neither. Every
clip is generated from a neutral picture of the person in the same place, the clip's sound, and the head motion that the
checkpoint itself reads off the real clip. Side by side stand

    ground truth                    the real clips, put through the same judges
    A2ET (stage 1, no emotion)      before emotional adaptation
    EAT                             with the clip's emotion, at intensity 1
    RePos-Net (true keypoints)      the renderer alone, driven by the keypoints of every real frame

Videos are kept, so an interrupted run goes on where it was.
"""

import json
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
from eat_hf.evaluation import evaluate, markdown_table, merge, write_page
from eat_hf.evaluation.parameters import parameter_shares
from eat_hf.evaluation.report import EvaluationReport, Tuning
from eat_hf.media import SAMPLING_RATE, write_video

from .corpus.build import Plan, build_corpus
from .corpus.dataset import Clip, Corpus
from .options import parse_options

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


@torch.no_grad()
def generate(task: tuple[Clip, Path, int]) -> None:
    """The videos of one clip, in the folders of their methods."""
    clip, output, seed = task
    pipe, name = _worker["pipe"], clip_name(clip)
    frames, sound = clip.frames(), clip.waveform()[: clip.length * SAMPLING_RATE // 25]
    for method, emotion in ((STAGE_1, None), (EAT, clip.emotion)):
        path = output / method / f"{name}.mp4"
        if not path.exists():
            video = clip.folder / clip.metadata["file_name"]
            out = pipe(clip.portrait(), (sound, SAMPLING_RATE), emotion, 1.0, video, generator=seed, align=False)
            out.save(path)
    path = output / RENDERER / f"{name}.mp4"
    if not path.exists():
        made = reenact(pipe, clip.portrait(), frames)
        write_video(path, made, sound[None], SAMPLING_RATE)


@torch.no_grad()
def reenact(pipe: EATPipeline, portrait: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The portrait moved to the keypoints found in every frame (T, 256, 256, 3) uint8."""
    source = torch.from_numpy(portrait.copy()).permute(2, 0, 1)[None].float() / 255
    keypoints = pipe.keypoint_detector(source).keypoints
    made = []
    for batch in torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(255).split(8):
        driving = pipe.keypoint_detector(batch).keypoints
        rendered = pipe.repos_net(source, keypoints, driving[None]).frames[0]
        made.append((rendered * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy())
    return np.concatenate(made)


def describe_tuning(model: Path) -> Tuning | None:
    """How long emotional adaptation took, if the checkpoint's training.json says so."""
    path = model / "training.json"
    record = json.loads(path.read_text()).get("emotion", {}).get("training") if path.exists() else None
    return Tuning(record["seconds"] / 3600, record["device"]) if record else None


def refresh_card(card: Path, report: EvaluationReport, command: str) -> None:
    """Put the tables between the card's markers."""
    text = card.read_text(encoding="utf8")
    parts = [f"`{command}`, {len(report.methods[0].clips)} clips of the test split. {' '.join(report.notes)}"]
    for protocol in report.protocols:
        parts.append(f"Protocol `{protocol}`:\n\n{markdown_table(report, protocol).strip()}")
    emotions = [method for method in report.methods if method.emotions]
    names = emotions[0].emotions.classes
    lines = ["| emotion seen as asked for, % | " + " | ".join(names) + " |", "|:--|" + "--:|" * len(names)]
    for method in emotions:
        recall = method.emotions.recall
        cells = ("–" if recall[name] is None else f"{recall[name]:.0f}" for name in names)
        lines.append(f"| {method.name} | " + " | ".join(cells) + " |")
    parts.append("\n".join(lines))
    body = "\n\n".join(parts)
    fresh, count = re.subn(
        re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n\n{body}\n\n{END}", text, flags=re.DOTALL
    )
    if not count:
        raise SystemExit(f"{card} has no place for the tables; put {BEGIN} and {END} where they belong.")
    card.write_text(fresh, encoding="utf8")


def main() -> None:
    options, _ = parse_options(ReproduceOptions, "reproduce")
    output = Path(options.output)
    build_corpus(plan_of(options), options.workers)
    clips = [clip for clip in Corpus(options.corpus).clips(split="test", kind="speech") if clip.metadata["text"]]
    if options.clips:
        clips = [clips[i] for i in np.linspace(0, len(clips) - 1, options.clips).astype(int)]

    truth = output / "ground truth"
    shutil.rmtree(truth, ignore_errors=True)
    for method in (truth, *(output / name for name in (STAGE_1, EAT, RENDERER))):
        method.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        shutil.copy(clip.folder / clip.metadata["file_name"], truth / f"{clip_name(clip)}.mp4")
        shutil.copy(clip.folder / clip.metadata["wav"], truth / f"{clip_name(clip)}.wav")
    tasks = [(clip, output, options.seed) for clip in clips]
    with ProcessPoolExecutor(options.workers, get_context("spawn"), prepare_worker, (options.model,)) as pool:
        list(tqdm(pool.map(generate, tasks), "generate", len(tasks)))

    pipe = EATPipeline.from_pretrained(options.model)
    reports, figures = [], {}
    command = "python -m training.reproduce " + " ".join(sys.argv[1:])
    for name in (RENDERER, STAGE_1, EAT):  # a report's page puts the last one first
        made = evaluate(
            output / name,
            truth,
            name=name,
            fid_backbone=options.fid_backbone,
            parameters=parameter_shares(pipe) if name == EAT else (),
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
    refresh_card(Path(options.model) / "README.md", report, "make reproduce")
    print(f"{output / 'report.html'}, {output / 'report.json'} and the card of {options.model} are written.")


if __name__ == "__main__":
    main()
