"""The paper's ablations, one command each: train the variants, measure them alike, set them beside the paper's numbers.

    python -m training.experiments table5 --corpus corpus --test_corpus corpus_test --runs runs

Every variant is a list of commands of the ordinary training scripts, run one after another, and a pipeline put together
from what they leave behind. Its clips are generated and measured as `training.reproduce` does it. Whatever is finished
is not done again, and an interrupted command goes on where it was, so the same line, given again, completes the work;
`--dry_run true` prints what would be done. Tables share what they have in common: the full model is trained once.

Results go to `--results`: a JSON file and a plot for every experiment, and README.md, a page with all that there are.
"""

import fcntl
import importlib
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from eat_hf import (
    A2ET,
    EDN,
    CanonicalKeypointDetector,
    DeepSpeechEncoder,
    EATPipeline,
    EmotionMapper,
    ExpressionBasis,
    MotionEstimator,
    RePosNet,
)
from eat_hf.errors import UserError
from eat_hf.evaluation import EvaluationReport, evaluate
from eat_hf.evaluation.parameters import parameter_shares
from eat_hf.evaluation.report import MethodResults

from .corpus.build import build_corpus
from .corpus.dataset import Clip
from .corpus.heads import KEYPOINT_NAMES
from .experiments_page import write_results
from .options import Recipe, parse_options
from .reproduce import EAT, RENDERER, STAGE_1, ReproduceOptions, choose_clips, copy_truth, generate, plan_of
from .train_emotion import EmotionOptions

SHARED_STAGES = ("detector", "estimator", "renderer", "speech", "pca", "a2et")  # what `--runs` must hold
PROTOCOL = "eat_official"
PICTURE_TERMS = {"perceptual_weight": 10, "sync_weight": 10, "face_weight": 10}  # as published, for stage 2
POINTS = 5  # of every curve of figure 5
RECORD = "command.json"  # in every folder that a command makes
SLUGS = {STAGE_1: "stage_1", EAT: "eat", RENDERER: "reenacted"}
SCRIPTS = {  # options of every training script, and its stage in the configs
    "train_enhancement": ("EnhancementOptions", "enhancement"),
    "train_a2et": ("A2ETOptions", "a2et"),
    "train_emotion": ("EmotionOptions", "emotion"),
    "train_sync": ("SyncOptions", "sync"),
    "assemble": ("AssembleOptions", "assemble"),
}


@dataclass
class ExperimentOptions:
    """Options."""

    experiment: Literal["table3", "table4", "table5", "table6", "figure5", "figure6"] = field(
        metadata={"help": "Table or figure of the paper; may come first, without the option's name."}
    )
    corpus: str = field(default="corpus", metadata={"help": "Corpus to train on."})
    test_corpus: str = field(default="corpus_test", metadata={"help": "Test split; rendered there if it is missing."})
    runs: str = field(default="runs", metadata={"help": f"Folder with the runs {', '.join(SHARED_STAGES)}."})
    output: str = field(default="outputs/experiments", metadata={"help": "Where variants and their videos go."})
    results: str = field(
        default="checkpoints_card/eat-demo/experiments", metadata={"help": "Where tables, plots and the page go."}
    )
    steps: int = field(default=0, metadata={"help": "Of every training command; 0: as the config says."})
    clips: int = field(default=40, metadata={"help": "Test clips, spread over all; 0 for all."})
    perceptual_backbone: str = field(
        default="", metadata={"help": "Of commands with a perceptual loss; empty: as the config says."}
    )
    sync_expert: str = field(
        default="", metadata={"help": "Folder of a SyncExpert for the sync loss; empty: trained by the way."}
    )
    fid_backbone: str = field(default="dlib_resnet", metadata={"help": "See `eat-hf evaluate --fid-backbone`."})
    workers: int = field(default=2, metadata={"help": "Processes that generate and measure."})
    seed: int = field(default=0, metadata={"help": "Of training and of the prompts."})
    dry_run: bool = field(default=False, metadata={"help": "Print the commands and do nothing."})


# What is compared -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A training script with its arguments.

    Attributes:
        module: as `python -m` takes it.
        folder: what it makes.
        arguments: all of them, the folder's among them.
    """

    module: str
    folder: Path
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(["python", "-m", self.module, *self.arguments])


@dataclass(frozen=True)
class Model:
    """What commands train, one after another, and how it becomes a pipeline.

    Attributes:
        folder: a complete folder of runs; what the commands do not make are links.
        commands: in their order, `training.assemble` the last.
        links: {stage: folder of a run}.
    """

    folder: Path
    commands: tuple[Command, ...]
    links: dict[str, Path]


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        title: of the line.
        model: that is measured.
        method: how its videos are made: EAT, STAGE_1 or RENDERER of `training.reproduce`.
        paper: {metric: the paper's value}, where the paper has one.
        share: of the emotional clips that were learnt from (figure 5).
    """

    title: str
    model: Model
    method: str = EAT
    paper: dict[str, float] = field(default_factory=dict)
    share: float = 1.0


class Variants:
    """Models of a set of options and a config."""

    def __init__(self, options: ExperimentOptions, recipe: Recipe):
        self.options, self.recipe = options, recipe
        self.output = Path(options.output)

    def configured(self, name: str) -> Any:
        """What the config, else the script, sets for an option of stage 2; 0 where it has no such option."""
        return self.recipe.stages.get("emotion", {}).get(name, getattr(EmotionOptions, name, 0))

    @property
    def steps(self) -> int:
        """Of stage 2."""
        return self.options.steps or self.configured("steps")

    def train(self, script: str, folder: Path, steps: bool = True, **more: Any) -> Command:
        """A command that trains; `more` are its further options."""
        settings = {"corpus": self.options.corpus, "output_dir": folder, "seed": self.options.seed}
        if steps and self.options.steps:
            settings["steps"] = self.options.steps
        if script in ("train_emotion", "train_enhancement") and self.options.perceptual_backbone:
            settings["perceptual_backbone"] = self.options.perceptual_backbone
        return self.command(script, folder, settings | more)

    def command(self, script: str, folder: Path, settings: dict[str, Any]) -> Command:
        """With values as the command line has them."""
        arguments = ["--config", self.recipe.name]
        for name, value in settings.items():
            arguments += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
        return Command(f"training.{script}", folder, tuple(arguments))

    def model(self, name: str, commands: list[Command], links: dict[str, Path] | None = None) -> Model:
        """Commands, completed by the assembly; stages that they do not make are linked to the shared ones."""
        folder = self.output / name
        made = {command.folder for command in commands}
        linked = {stage: Path(self.options.runs) / stage for stage in SHARED_STAGES if folder / stage not in made}
        pipeline = folder / "pipeline"
        settings = {"corpus": self.options.corpus, "runs": folder, "output": pipeline}
        assembly = self.command("assemble", pipeline, settings)
        return Model(folder, (*commands, assembly), linked | (links or {}))

    def adapted(self, name: str, **more: Any) -> Model:
        """Stage 2 on the shared stages, with further options."""
        return self.model(name, self.adaptation(name, **more))

    def adaptation(self, name: str, runs: Path | None = None, **more: Any) -> list[Command]:
        """The commands of stage 2: the expert of the sync loss, where there is such a loss, and the adaptation.

        `runs`: where the earlier stages are, if not among the shared ones.
        """
        commands = []
        if more.get("sync_weight", self.configured("sync_weight")):
            expert = self.options.sync_expert
            if not expert:
                run = self.output / "expert"
                commands.append(self.train("train_sync", run, steps=False, network="expert", split="train"))
                expert = str(run / "sync_expert")
            more["sync_expert"] = expert
        folder = self.output / name / "emotion"
        return [*commands, self.train("train_emotion", folder, runs=runs or self.options.runs, **more)]

    def full(self) -> Model:
        """The whole method. It keeps what it could do on the way, for figure 5."""
        return self.adapted("full", snapshot_every=max(1, self.steps // POINTS))

    def deep_prompts(self) -> Model:
        return self.adapted("deep_prompts", prompts="deep", edn=False, eam=False)

    def table3(self) -> list[Row]:
        rows = []
        for name, title, settings, paper in (
            ("latent_osfv", "OSFV", {"deformation_weight": 5.0, "head_pose_weight": 0.0}, (22.39, 30)),
            ("latent_enhanced", "enhanced", {}, (24.49, 86)),
        ):
            folder = self.output / name
            initial = {"initial": self.options.runs} if self.recipe.stages.get("enhancement", {}).get("initial") else {}
            model = self.model(
                name,
                [
                    self.train("train_enhancement", folder / "enhancement", **initial, **settings),
                    self.train("train_a2et", folder / "a2et", runs=folder),
                    *self.adaptation(name, folder),
                ],
            )
            rows.append(
                Row(f"{title} latent, of the real frames", model, RENDERER, _paper(psnr=paper[0], acc=paper[1]))
            )
            rows.append(Row(f"{title} latent, EAT on top", model))
        return rows

    def table4(self) -> list[Row]:
        deep = self.deep_prompts()
        shallow = self.adapted("shallow_prompts", prompts="shallow", edn=False, eam=False)
        return [
            Row("no prompts", deep, STAGE_1, _paper(acc=25, sync=8.12)),  # without prompts nothing is adapted
            Row("shallow prompts", shallow, EAT, _paper(acc=57, sync=7.63)),
            Row("deep prompts", deep, EAT, _paper(acc=84, sync=7.83)),
        ]

    def table5(self) -> list[Row]:
        deep = self.deep_prompts()
        with_edn = self.adapted("deep_prompts_edn", prompts="deep", edn=True, eam=False)
        return [
            Row("A2ET", deep, STAGE_1, _paper(psnr=20.46, acc=25, sync=8.12)),
            Row("+ prompts", deep, EAT, _paper(psnr=21.23, acc=84, sync=7.83)),
            Row("+ EDN", with_edn, EAT, _paper(psnr=21.40, acc=81, sync=7.83)),
            Row("+ EAM", self.full(), EAT, _paper(psnr=21.79, acc=67, sync=8.22)),
        ]

    def table6(self) -> list[Row]:
        on = {name: self.configured(name) or weight for name, weight in PICTURE_TERMS.items()}
        off = {"latent_weight": 0.0, "sync_weight": 0.0, "face_weight": 0.0}
        settings = {"perceptual_weight": on["perceptual_weight"]} | off
        rows = [Row("perceptual", self.adapted("loss_perceptual", **settings), EAT, _paper(psnr=21.52, sync=5.50))]
        settings.pop("latent_weight")  # as the config has it
        rows.append(Row("+ latent", self.adapted("loss_latent", **settings), EAT, _paper(psnr=21.61, sync=5.66)))
        settings["sync_weight"] = on["sync_weight"]
        rows.append(Row("+ sync", self.adapted("loss_sync", **settings), EAT, _paper(psnr=21.31, sync=8.13)))
        settings["face_weight"] = on["face_weight"]
        usual = all(self.configured(name) == weight for name, weight in settings.items())
        last = self.full() if usual else self.adapted("loss_face", **settings)
        return [*rows, Row("+ face L1", last, EAT, _paper(psnr=21.79, sync=8.22))]

    def figure5(self) -> list[Row]:
        every = max(1, self.steps // POINTS)
        rows = [Row("A2ET, before tuning", self.full(), STAGE_1, share=0.0)]
        for share in (0.25, 0.5, 1.0):
            run = f"data_{share * 100:.0f}"
            if share == 1:
                run, trained = "full", self.full().commands[:-1]
            else:
                trained = self.adaptation(run, snapshot_every=every, data_share=share)
            for step in range(every, every * POINTS + 1, every):
                snapshot = self.output / run / "emotion" / "snapshots" / f"step_{step}"
                model = self.model(f"{run}_step_{step}", list(trained), {"emotion": snapshot})
                rows.append(Row(f"{share:.0%} of the data, step {step}", model, share=share))
        return rows


def _paper(psnr: float | None = None, acc: float | None = None, sync: float | None = None) -> dict[str, float]:
    values = {"psnr": psnr, "sync_confidence": sync, "acc_emo": acc}
    return {name: value for name, value in values.items() if value is not None}


# Running it -----------------------------------------------------------------------------------------------------------


def once(folder: Path, command: list[str], after: float, run: Callable[[], None]) -> float:
    """Call `run`, which makes a folder, unless it is done; an interrupted one is called again to go on.

    Args:
        folder: keeps a record of the command.
        command: words that say what is done; the folder must not have been made by others.
        after: when what this builds on was finished; a folder begun before that is made anew.

    Returns:
        when it was finished, in seconds since 1970.

    Raises:
        UserError: the folder was made in another way.
    """
    path = folder / RECORD
    record = json.loads(path.read_text()) if path.exists() else None
    if record is None and folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} is there already, but no experiment made it; use another --output.")
    if record and record["command"] != command:
        raise UserError(
            f"{folder} was made with other options ({shlex.join(record['command'])}); delete it, or use another "
            "--output."
        )
    if record and record["started"] < after:
        shutil.rmtree(folder)
        record = None
    if record is None:
        record = {"command": command, "started": time.time(), "finished": None}
    if record["finished"]:
        return record["finished"]
    write_json(path, record)
    run()
    record["finished"] = time.time()
    write_json(path, record)
    return record["finished"]


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf8")
    part.replace(path)


def run_command(command: Command) -> None:
    """Raises UserError if it fails; what it said stands above."""
    print(f"\n$ {command}", flush=True)
    code = subprocess.run([sys.executable, "-m", command.module, *command.arguments]).returncode
    if code:
        raise UserError(
            f"{command.folder} could not be made: `{command}` ended with status {code}, for the reason above. The same "
            "experiment, started again, goes on from there."
        )


def make_model(model: Model) -> float:
    """Run what is not finished. Returns when the pipeline was."""
    model.folder.mkdir(parents=True, exist_ok=True)
    for stage, target in model.links.items():
        link = model.folder / stage
        if link.is_symlink():
            link.unlink()  # the shared runs may have moved
        link.symlink_to(target.resolve(), target_is_directory=True)
    finished = 0.0
    for command in model.commands:
        words = [command.module, *command.arguments]
        finished = once(command.folder, words, finished, lambda command=command: run_command(command))
    return finished


def measure(row: Row, clips: list[Clip], options: ExperimentOptions, after: float) -> EvaluationReport:
    """Generate the clips of a row and measure them."""
    folder = row.model.folder / f"{SLUGS[row.method]}_{len(clips)}_clips_seed_{options.seed}"
    pipeline = row.model.folder / "pipeline"
    words = ["measure", row.method, str(pipeline), options.test_corpus, str(options.seed), options.fid_backbone]

    def run() -> None:
        print(f"\n# {row.title}: {len(clips)} clips into {folder}", flush=True)
        copy_truth(clips, folder / "truth")
        generate(str(pipeline), clips, {row.method: folder / "videos"}, options.seed, options.workers)
        made = evaluate(
            folder / "videos",
            folder / "truth",
            (PROTOCOL,),
            name=row.title,
            fid_backbone=options.fid_backbone,
            workers=options.workers,
        )
        made.report.save(folder / "report.json")

    once(folder, words, after, run)
    return EvaluationReport.load(folder / "report.json")


def check(rows: list[Row], options: ExperimentOptions) -> None:
    """Find mistakes now rather than after hours.

    Raises:
        UserError: a shared stage is missing, or a script lacks an option.
    """
    for command in commands_of(rows):
        missing = refused(command)
        if missing:
            raise UserError(f"`{command}` is not understood: {missing}")
    made = {path for row in rows for path in (command.folder for command in row.model.commands)}
    needed = {target for row in rows for target in row.model.links.values() if not _below(target, made)}
    absent = sorted(str(path) for path in needed if not (path / "results.json").exists())
    if absent:
        raise UserError(f"{', '.join(absent)} must be trained first; see the order of stages in the model card.")
    if not (Path(options.corpus) / "metadata.jsonl").exists():
        raise UserError(f"{options.corpus} is no corpus; see README.md for how to make one.")


def _below(path: Path, folders: set[Path]) -> bool:
    return any(parent in folders for parent in (path, *path.parents))


def refused(command: Command) -> str:
    """Why a training script would not take its arguments, or ""."""
    script = command.module.removeprefix("training.")
    kind, stage = SCRIPTS[script]
    try:
        module = importlib.import_module(command.module)
    except ModuleNotFoundError as error:
        return str(error)
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            parse_options(getattr(module, kind), stage, list(command.arguments))
    except ValueError as error:  # options that the script does not have
        return str(error)
    except SystemExit:
        return said.getvalue().strip().splitlines()[-1]
    return ""


def commands_of(rows: list[Row]) -> list[Command]:
    """Each once, in their order."""
    return list(dict.fromkeys(command for row in rows for command in row.model.commands))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Experiments share variants, so one at a time may work in a folder. Raises UserError if another does."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"Another experiment is at work in {folder}; wait for it, or use another --output."
            ) from None
        yield


def run_experiment(rows: list[Row], clips: list[Clip], options: ExperimentOptions) -> dict[str, Any]:
    """Make and measure all rows. Returns what the page shows of them."""
    lines, truth, notes = [], {}, []
    for row in rows:
        report = measure(row, clips, options, make_model(row.model))
        truth = scores(next(method for method in report.methods if method.is_ground_truth))
        method = next(method for method in report.methods if not method.is_ground_truth)
        notes += [note for note in report.notes if note not in notes]
        lines.append(
            {
                "title": row.title,
                "method": row.method,
                "share": row.share,
                "scores": scores(method),
                "rejected": len(method.rejected),
                "paper": row.paper,
                "training": training_of(row.model) if row.method != STAGE_1 else {},
            }
        )
    return {"rows": lines, "ground_truth": truth, "clips": len(clips), "notes": notes}


def scores(method: MethodResults) -> dict[str, float | None]:
    """{metric: value} of the protocol. A perfect PSNR, which JSON cannot hold, is None."""
    values = {key: score.value for key, score in method.protocols[PROTOCOL].metrics.items()}
    return {key: None if value == float("inf") else value for key, value in values.items()}


def training_of(model: Model) -> dict[str, Any]:
    """{stage: steps, batch_size, seconds, device} of what was trained for a model, the shared stages apart."""
    found = {}
    for command in model.commands[:-1]:
        run = command.folder
        if run.name == "emotion":  # in figure 5, a point on the way
            run = model.folder / "emotion"
        found[command.folder.name] = json.loads((run / "results.json").read_text())["training"]
    return found


def parameters(configs: list[str]) -> dict[str, Any]:
    """Figure 6: parts of the network at the sizes of configs; nothing is trained."""
    sizes = {}
    for config in configs:
        recipe = Recipe.load(config)
        sizes[recipe.name] = [asdict(share) for share in parameter_shares(empty_pipeline(recipe))]
    return {"sizes": sizes}


def empty_pipeline(recipe: Recipe) -> EATPipeline:
    """The pipeline of a config without memory for its weights."""
    indices = {
        name: [KEYPOINT_NAMES.index(point) for point in getattr(recipe, name)]
        for name in ("rigid_keypoints", "inner_mouth")
    }
    sizes = recipe.components
    with torch.device("meta"):
        return EATPipeline(
            keypoint_detector=CanonicalKeypointDetector(**sizes["keypoint_detector"]),
            motion_estimator=MotionEstimator(**sizes["motion_estimator"]),
            emotion_mapper=EmotionMapper(**sizes["emotion_mapper"]),
            a2et=A2ET(**sizes["a2et"]),
            edn=EDN(**sizes["edn"]),
            repos_net=RePosNet(**sizes["repos_net"], **indices),
            speech_encoder=DeepSpeechEncoder(**sizes["speech_encoder"]),
            expression_basis=ExpressionBasis(**sizes["expression_basis"]),
            **recipe.pipeline,
        )


def plan_experiment(options: ExperimentOptions, recipe: Recipe) -> list[Row]:
    """The rows of a table or of figure 5."""
    return getattr(Variants(options, recipe), options.experiment)()


def run(options: ExperimentOptions, recipe: Recipe, command: str) -> None:
    """Raises UserError, in one sentence."""
    results = Path(options.results)
    about = {"command": command, "config": recipe.name, "seed": options.seed}
    if options.experiment == "figure6":
        if not options.dry_run:
            write_results(results, "figure6", about | parameters(list(dict.fromkeys(["official", recipe.name]))))
        return
    rows = plan_experiment(options, recipe)
    if options.dry_run:
        for each in commands_of(rows):
            print(each)
        for row in rows:
            print(f"# then {options.clips or 'all'} test clips of {row.model.folder / 'pipeline'}: {row.title}")
        return
    check(rows, options)
    with alone(Path(options.output)):
        if not (Path(options.test_corpus) / "metadata.jsonl").exists():
            build_corpus(plan_of(replace(ReproduceOptions(), corpus=options.test_corpus)), options.workers)
        clips = choose_clips(options.test_corpus, options.clips)
        found = run_experiment(rows, clips, options)
    commands = [str(each) for each in commands_of(rows)]
    write_results(results, options.experiment, about | {"commands": commands} | found)


def main() -> None:
    argv = sys.argv[1:]
    if argv and not argv[0].startswith("-"):
        argv = ["--experiment", *argv]
    options, recipe = parse_options(ExperimentOptions, "experiments", argv)
    os.environ.setdefault("PYTHONUNBUFFERED", "1")  # so that commands and what they say stay in order
    try:
        run(options, recipe, shlex.join(["python", "-m", "training.experiments", *sys.argv[1:]]))
    except UserError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
