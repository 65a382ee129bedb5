"""From two folders of videos to a report: clip by clip in worker processes, then averages.

Every clip is measured on one thread by itself, and averages are taken in the order of names: the number of workers
changes nothing in the numbers.
"""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import repeat
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from pathlib import Path

import cv2
import torch
from tqdm import tqdm

from ..errors import InputWarning, UserError
from ..models.parameters import ParameterShare
from .averages import average_ground_truth, average_method
from .clips import ClipPair, pair_clips
from .judges.backbones import load_fid_backbone
from .judges.networks import Judges, Settings, bundled_judge, describe_judges
from .metrics.described import PROTOCOLS
from .report.page import Figure
from .report.results import GROUND_TRUTH, EvaluationReport, RejectedClip, Tuning
from .scoring import PairScores, score_pair

# what the authors' script and pytorch-fid use
STANDARD_BACKBONES = {"eat_official": "inception_v3", "standard": "inception_v3_fid"}
VERSIONS = ("eat_hf", "torch", "numpy", "scipy", "opencv-python-headless", "dlib-bin", "av")  # that a report names
GLIBC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**28),
    "MALLOC_ARENA_MAX": "1",
}


@dataclass(frozen=True)
class Evaluation:
    """A report, and figures for its page."""

    report: EvaluationReport
    figures: tuple[Figure, ...]


_worker: dict[str, Judges] = {}  # of this process, if it is a worker


def _prepare_worker() -> None:
    torch.set_num_threads(1)  # sums in another order round differently
    cv2.setNumThreads(1)
    warnings.simplefilter("ignore", InputWarning)


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Processes that start meanwhile keep large blocks for the next frame, instead of giving them back to the kernel,
    which costs a tenth of the time in page faults. C libraries other than glibc do not read these variables."""
    before = {name: os.environ.get(name) for name in GLIBC}
    os.environ.update({name: value for name, value in GLIBC.items() if before[name] is None})
    try:
        yield
    finally:
        for name in (name for name, value in before.items() if value is None):
            del os.environ[name]


def _starting() -> BaseContext:
    """How workers start: torch and dlib hold threads that do not survive a fork of this process, so they are forks of
    one that has only imported what they need, once for all of them. A system without such starts each anew."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([score_pair.__module__])
    return context


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that score clips. On any error, and on Ctrl-C, they are ended: nobody waits for what they still do."""
    with ProcessPoolExecutor(count, _starting(), _prepare_worker) as pool:
        try:
            with keep_freed_memory():
                for _ in range(count):
                    pool.submit(os.getpid)  # starts a worker
            yield pool
        except BaseException:
            for process in list((pool._processes or {}).values()):  # Python 3.14 has a public way
                process.terminate()
            raise


def _score_in_worker(pair: ClipPair, settings: Settings) -> PairScores | RejectedClip:
    if not _worker:
        _worker["judges"] = Judges(settings)
    return score_pair(pair, _worker["judges"])


def evaluate(
    generated: str | os.PathLike,
    reference: str | os.PathLike,
    protocols: Sequence[str] = tuple(PROTOCOLS),
    *,
    name: str | None = None,
    syncnet: str | None = "bundled",
    emotion_judge: str | None = "bundled",
    fid_backbone: str | None = None,
    perceptual_backbone: str | None = None,
    parameters: Sequence[ParameterShare] = (),
    tuning: Tuning | None = None,
    workers: int | None = None,
    device: str | None = "cpu",
    progress: bool = True,
    command: str = "",
) -> Evaluation:
    """Compare a folder of generated videos with a folder of real ones of the same names.

    Args:
        generated, reference: folders; videos pair by their path without suffix. Sound is taken from the video or from a
            .wav file beside it. Emotions are read from labels.csv (columns clip, emotion) in either folder, or from
            names such as M003_hap_3_001 or happy_04.
        protocols: "eat_official", "standard" or both.
        name: of the method; the generated folder's by default.
        syncnet, emotion_judge: folder or Hub id of a `SyncNet` and an `EmotionFAN`; "bundled" are the ones trained on
            the synthetic corpus, None leaves their metrics out.
        fid_backbone: see `load_fid_backbone`; "none" leaves the metric out.
        perceptual_backbone: see `load_backbone`; left out by default, for it takes longer than all the rest.
        parameters, tuning: of the method, for the report.
        workers: processes; all cores by default. They change no number.
        device: of torch, "cpu" or "cuda"; None: "cuda" where there is one.
        command: recorded in the report.

    Raises:
        UserError: folders or judges cannot be used, or no clip could be scored.
    """
    unknown = set(protocols) - set(PROTOCOLS)
    if unknown or not protocols:
        raise UserError(f"A protocol is one of {', '.join(PROTOCOLS)}, not {', '.join(sorted(unknown)) or 'none'}.")
    generated, reference = Path(generated), Path(reference)
    pairs, rejected = pair_clips(generated, reference)
    scores: list[PairScores] = []
    # even one worker is a process of its own, so that the caller's torch keeps its number of threads
    count = min(workers or os.cpu_count() or 1, len(pairs))
    with _workers(count) as pool:
        settings = _settings(tuple(protocols), syncnet, emotion_judge, fid_backbone, perceptual_backbone, device)
        judges = describe_judges(settings)  # loads each of them once, so that a mistake shows before the work starts
        results = pool.map(_score_in_worker, pairs, repeat(settings))
        results = tqdm(results, "clips", len(pairs), disable=not progress)
        for result in results:
            (rejected if isinstance(result, RejectedClip) else scores).append(result)
    if not scores:
        paired = {pair.name for pair in pairs}
        reasons = sorted({clip.reason for clip in rejected if clip.name in paired})
        raise UserError(f"None of the {len(pairs)} clips could be scored: {'; '.join(reasons[:3])}.")
    scores.sort(key=lambda score: score.name)
    method_name = name or generated.resolve().name
    report = EvaluationReport(
        title=f"{method_name} against {reference.resolve().name}",
        methods=(
            average_ground_truth(scores, settings, judges),
            average_method(method_name, scores, rejected, settings, judges, tuple(parameters), tuning),
        ),
        judges=judges.described,
        versions=_versions(),
        commands=(command,) if command else (),
        notes=judges.notes,
    )
    figures = [
        Figure(s.name, ((GROUND_TRUTH, s.reference.strip), (method_name, s.generated.strip)), s.emotion) for s in scores
    ]
    return Evaluation(report, tuple(figures))


def check_report_target(path: Path) -> None:
    """Raise a UserError before the work starts if a report could not be written to `path`."""
    if path.suffix != ".json":
        raise UserError(f"The report is a .json file, not {path}; the page gets the same name with .html.")
    if not path.resolve().parent.is_dir():
        raise UserError(f"There is no folder {path.resolve().parent} for the report.")


def _settings(
    protocols: tuple[str, ...],
    syncnet: str | None,
    emotion_judge: str | None,
    fid_backbone: str | None,
    perceptual_backbone: str | None,
    device: str | None,
) -> Settings:
    """What `evaluate` was asked for, with its defaults filled in."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    backbones = {}
    if fid_backbone != "none":
        for protocol in protocols:  # the network that will be used, whoever chose it
            name = fid_backbone or load_fid_backbone(None, device, STANDARD_BACKBONES[protocol]).name
            backbones[protocol] = name
    return Settings(
        protocols=protocols,
        syncnet=bundled_judge("syncnet") if syncnet == "bundled" else syncnet,
        emotion_judge=bundled_judge("emotion_fan") if emotion_judge == "bundled" else emotion_judge,
        backbones=backbones,
        perceptual=perceptual_backbone,
        device=device,
    )


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in VERSIONS:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
