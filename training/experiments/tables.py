"""The paper's ablations, one command each: train the variants, measure them alike, set them beside the paper's numbers.

    python -m training.experiments.tables table5 --corpus corpus --test_corpus corpus_test --runs runs

A variant is a list of commands of the ordinary training scripts, and a pipeline put together from what they leave
behind. Its clips are generated and measured as `training.experiments.reproduce` does it. Tables share what they have in
common. What is finished is not done again and trainings resume: the same line, given again, completes an interrupted
experiment. `--dry_run true` prints what would be done.

Results go to `--results`: a JSON file and a plot for every experiment, and README.md, a page with all that there are.
"""

import fcntl
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from joblib import Parallel, delayed
from simple_parsing import field as option

from eat_hf import (
    EATPipeline,
)
from eat_hf.errors import UserError
from eat_hf.evaluation import EvaluationReport, evaluate
from eat_hf.evaluation.report.results import MethodResults
from eat_hf.media.files import write_atomically
from eat_hf.models.parameters import parameter_shares

from ..corpus.build import build_corpus
from ..corpus.heads import KEYPOINT_NAMES
from ..data.dataset import Clip
from ..data.expression_clips import A2ETOptions
from ..judges.train_sync import SyncOptions
from ..loop.command_line import Recipe, parse_options, run_script
from ..release.assemble import AssembleOptions
from ..stage_1a_enhancement import EnhancementOptions
from ..stage_2_emotion import EmotionOptions
from .page import write_results
from .reproduce import EAT, RENDERER, STAGE_1, ReproduceOptions, choose_clips, copy_truth, generate, plan_of

PROTOCOL = "eat_official"
FOLDERS = {STAGE_1: "stage_1", EAT: "eat", RENDERER: "reenacted"}  # of measurements


@dataclass(frozen=True)
class Script:
    """A training script: its module, as `python -m` takes it, and the kind of its options."""

    module: str
    options: type


SCRIPTS = {  # by the section of a config that is theirs
    "enhancement": Script("training.stage_1a_enhancement", EnhancementOptions),
    "a2et": Script("training.stage_1b_a2et", A2ETOptions),
    "emotion": Script("training.stage_2_emotion", EmotionOptions),
    "sync": Script("training.judges.train_sync", SyncOptions),
    "assemble": Script("training.release.assemble", AssembleOptions),
}
PICTURE_TERMS = {"perceptual_weight": 10.0, "sync_weight": 10.0, "face_weight": 10.0}  # as published, for stage 2
SHARES = (0.25, 0.5, 1.0)  # of the emotional clips, in figure 5
POINTS = 3  # of each of its curves


@dataclass
class ExperimentOptions:
    """Options."""

    experiment: Literal["table3", "table4", "table5", "table6", "figure5", "figure6"] = option(
        positional=True, help="Table or figure of the paper."
    )
    corpus: str = field(default="corpus", metadata={"help": "Corpus to train on."})
    test_corpus: str = field(default="corpus_test", metadata={"help": "Test split; rendered there if it is missing."})
    runs: str = field(default="runs", metadata={"help": "Folder with the runs of all stages up to A2ET."})
    output: str = field(default="outputs/experiments", metadata={"help": "Where variants and their videos go."})
    results: str = field(
        default="checkpoints_card/eat-demo/experiments", metadata={"help": "Where tables, plots and the page go."}
    )
    steps: int = field(default=0, metadata={"help": "Of every training but the expert's; 0: as the config says."})
    clips: int = field(default=40, metadata={"help": "Test clips, spread over all; 0 for all."})
    perceptual_backbone: str = field(
        default="", metadata={"help": "Of trainings with a perceptual loss; empty: as the config says."}
    )
    perceptual_weight: float = field(
        default=PICTURE_TERMS["perceptual_weight"],
        metadata={"help": "Of table 6, where the config has none; a stand-in with larger activations wants less."},
    )
    sync_expert: str = field(
        default="", metadata={"help": "SyncExpert of the sync loss; empty: as the config says, else it is trained."}
    )
    fid_backbone: str = field(default="dlib_resnet", metadata={"help": "See `eat-hf evaluate --fid-backbone`."})
    workers: int = field(default=2, metadata={"help": "Processes that generate and measure."})
    jobs: int = field(default=1, metadata={"help": "Variants that are trained side by side."})
    seed: int = field(default=0, metadata={"help": "Of training and of the prompts."})
    dry_run: bool = field(default=False, metadata={"help": "Print the commands and do nothing."})


# What is compared -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A training script with its arguments.

    Attributes:
        module: as `python -m` takes it.
        folder: what it makes.
        arguments: all of them, the folder's among them; an option's name, then its value, and so on.
    """

    module: str
    folder: Path
    arguments: tuple[str, ...]

    @property
    def settings(self) -> dict[str, str]:
        """{option: value}"""
        return dict(zip(self.arguments[::2], self.arguments[1::2], strict=False))

    def __str__(self) -> str:
        return shlex.join(["python", "-m", self.module, *self.arguments])


@dataclass(frozen=True)
class Model:
    """What commands train, one after another, and how it becomes a pipeline.

    Attributes:
        trainings: in their order.
        links: {stage: folder of a run}, the stages that come from elsewhere.
        assembly: makes the pipeline from a folder with all stages.
    """

    trainings: tuple[Command, ...]
    links: dict[str, Path]
    assembly: Command

    @property
    def pipeline(self) -> Path:
        return self.assembly.folder

    @property
    def folder(self) -> Path:
        """All stages, some of them links."""
        return self.pipeline.parent


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        title: of the line.
        model: that is measured.
        method: how its videos are made: EAT, STAGE_1 or RENDERER of `training.experiments.reproduce`.
        paper: {metric: the paper's value}, where the paper has one.
        share: of the emotional clips that were learnt from (figure 5).
    """

    title: str
    model: Model
    method: str = EAT
    paper: dict[str, float] = field(default_factory=dict)
    share: float = 1.0


class Experiments:
    """The rows of every experiment, for a set of options and a config."""

    def __init__(self, options: ExperimentOptions, recipe: Recipe):
        self.options, self.recipe = options, recipe
        self.output, self.runs = Path(options.output), Path(options.runs)

    def configured(self, stage: str, name: str) -> Any:
        """What the config, else the script, sets for an option."""
        return self.recipe.stages.get(stage, {}).get(name, getattr(SCRIPTS[stage].options, name, None))

    def command(self, stage: str, folder: Path, **settings: Any) -> Command:
        """With values as the command line has them."""
        arguments = ["--config", self.recipe.name, "--corpus", self.options.corpus]
        for name, value in settings.items():
            arguments += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
        return Command(SCRIPTS[stage].module, folder, tuple(arguments))

    def train(self, stage: str, folder: Path, **settings: Any) -> list[Command]:
        """The training of a stage; where it has a sync loss, that of the expert before it."""
        before = []
        if settings.get("perceptual_weight", self.configured(stage, "perceptual_weight")):
            # in full, for the page says which network it was
            known = self.options.perceptual_backbone or self.configured(stage, "perceptual_backbone")
            settings["perceptual_backbone"] = known
        if settings.get("sync_weight", self.configured(stage, "sync_weight")):
            expert = self.options.sync_expert or self.configured(stage, "sync_expert")
            if not expert:
                run = self.output / "expert"
                before = self.train("sync", run, network="expert", split="train")
                expert = run / "sync_expert"
            settings["sync_expert"] = expert
        if "checkpoint_every" not in self.recipe.stages.get(stage, {}):
            settings["checkpoint_every"] = 100  # a short training shall resume, too
        if self.options.steps and stage != "sync":
            settings["steps"] = self.options.steps
            settings["warmup_steps"] = min(self.configured(stage, "warmup_steps"), self.options.steps // 10)
        seed = self.options.seed
        return [*before, self.command(stage, folder, output_dir=folder, seed=seed, **settings)]

    def model(self, folder: Path, trainings: list[Command], links: dict[str, Path] | None = None) -> Model:
        """Trainings with the assembly; stages that neither they nor `links` give are linked to the shared runs."""
        made = {command.folder.name for command in trainings if command.folder.parent == folder} | set(links or {})
        enhanced = "enhancement" in made or (self.runs / "enhancement").exists()
        latent = ("enhancement",) if enhanced else ("detector", "estimator", "renderer")
        shared = {stage: self.runs / stage for stage in (*latent, "speech", "pca", "a2et") if stage not in made}
        pipeline = folder / "pipeline"
        assembly = self.command("assemble", pipeline, runs=folder, output=pipeline)
        return Model(tuple(trainings), shared | (links or {}), assembly)

    def adapted(self, name: str, **settings: Any) -> Model:
        """Stage 2 on the shared runs."""
        folder = self.output / name
        return self.model(folder, self.train("emotion", folder / "emotion", runs=self.runs, **settings))

    @property
    def snapshot_every(self) -> int:
        """Steps between the points of figure 5."""
        return max(1, (self.options.steps or self.configured("emotion", "steps")) // POINTS)

    def full(self) -> Model:
        """The whole method. It keeps what it could do on the way, for figure 5."""
        return self.adapted("full", snapshot_every=self.snapshot_every)

    def deep_prompts(self) -> Model:
        return self.adapted("deep_prompts", prompts="deep", edn=False, eam=False)

    def table3(self) -> list[Row]:
        rows = []
        initial, heard = {}, {}
        if self.configured("enhancement", "initial"):  # a latent that is tuned: so is what speech makes of it
            initial = {"initial": self.runs}
            heard = {"initial": self.runs / "a2et/a2et", "steps": self.configured("enhancement", "steps")}
        for name, title, settings, paper in (
            (
                "latent_osfv",
                "OSFV",
                {"deformation_weight": 5.0, "background_weight": 1.0},
                {"psnr": 22.39, "acc_emo": 30},
            ),
            ("latent_enhanced", "enhanced", {}, {"psnr": 24.49, "acc_emo": 86}),
        ):
            folder = self.output / name
            trainings = [
                *self.train("enhancement", folder / "enhancement", **initial, **settings),
                *self.train("a2et", folder / "a2et", runs=folder, **heard),
                *self.train("emotion", folder / "emotion", runs=folder),
            ]
            model = self.model(folder, trainings)
            rows.append(Row(f"{title} latent, of the real frames", model, RENDERER, paper))
            rows.append(Row(f"{title} latent, EAT on top", model))
        return rows

    def table4(self) -> list[Row]:
        deep = self.deep_prompts()
        shallow = self.adapted("shallow_prompts", prompts="shallow", edn=False, eam=False)
        return [
            Row("no prompts", deep, STAGE_1, {"acc_emo": 25, "sync_confidence": 8.12}),  # nothing is adapted
            Row("shallow prompts", shallow, EAT, {"acc_emo": 57, "sync_confidence": 7.63}),
            Row("deep prompts", deep, EAT, {"acc_emo": 84, "sync_confidence": 7.83}),
        ]

    def table5(self) -> list[Row]:
        deep = self.deep_prompts()
        with_edn = self.adapted("deep_prompts_edn", prompts="deep", edn=True, eam=False)
        return [
            Row("A2ET", deep, STAGE_1, {"psnr": 20.46, "sync_confidence": 8.12, "acc_emo": 25}),
            Row("+ prompts", deep, EAT, {"psnr": 21.23, "sync_confidence": 7.83, "acc_emo": 84}),
            Row("+ EDN", with_edn, EAT, {"psnr": 21.40, "sync_confidence": 7.83, "acc_emo": 81}),
            Row("+ EAM", self.full(), EAT, {"psnr": 21.79, "sync_confidence": 8.22, "acc_emo": 67}),
        ]

    def table6(self) -> list[Row]:
        weights = PICTURE_TERMS | {"perceptual_weight": self.options.perceptual_weight}
        published = {name: self.configured("emotion", name) or weight for name, weight in weights.items()}
        settings = dict.fromkeys(PICTURE_TERMS, 0.0) | {"latent_weight": 0.0}
        rows: list[Row] = []
        for term, paper in (
            ("perceptual", {"psnr": 21.52, "sync_confidence": 5.50}),
            ("latent", {"psnr": 21.61, "sync_confidence": 5.66}),
            ("sync", {"psnr": 21.31, "sync_confidence": 8.13}),
            ("face", {"psnr": 21.79, "sync_confidence": 8.22}),
        ):
            name = f"{term}_weight"
            settings[name] = published.get(name) or self.configured("emotion", name)
            usual = all(self.configured("emotion", option) == value for option, value in settings.items())
            model = self.full() if usual else self.adapted(f"loss_{term}", **settings)
            rows.append(Row(f"+ {term}" if rows else term, model, EAT, paper))
        return rows

    def figure5(self) -> list[Row]:
        rows = [Row("A2ET, before tuning", self.full(), STAGE_1, share=0.0)]
        every = self.snapshot_every
        for share in SHARES:
            name = f"data_{share * 100:.0f}"
            run = self.full() if share == 1 else self.adapted(name, snapshot_every=every, data_share=share)
            for step in range(every, every * POINTS, every):
                snapshot = run.folder / "emotion" / "snapshots" / f"step_{step}"
                model = self.model(run.folder / f"step_{step}", list(run.trainings), {"emotion": snapshot})
                rows.append(Row(f"{share:.0%} of the data, step {step}", model, share=share))
            rows.append(Row(f"{share:.0%} of the data", run, share=share))
        return rows


# Running it -----------------------------------------------------------------------------------------------------------


def once(folder: Path, command: list[str], run: Callable[[int], None]) -> None:
    """Call `run`, which makes a folder, unless it is done; an interrupted one is called again to go on.

    The folder remembers the command. Who else wants it meanwhile, in this process or in another, waits.

    Args:
        run: takes the file descriptor of the lock, for a process that shall hold it even if this one is killed.

    Raises:
        UserError: the folder was made in another way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "command.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        new: dict[str, Any] = {"command": command, "finished": False}
        record = json.loads(path.read_text()) if path.exists() else new
        if record["command"] != command:
            raise UserError(
                f"{folder} was made with other options ({shlex.join(record['command'])}); delete it, or use another "
                "--output."
            )
        if not record["finished"]:
            write_atomically(path, json.dumps(record))
            run(lock.fileno())
            write_atomically(path, json.dumps(record | {"finished": True}))


def run_command(command: Command, threads: int = 0) -> None:
    """Run it unless it is done; what it says goes to output.txt in its folder.

    Args:
        threads: of torch; 0 for its own choice.

    Raises:
        UserError: it failed.
    """
    words = [sys.executable, "-m", command.module, *command.arguments]
    environment = ({"OMP_NUM_THREADS": str(threads)} if threads else {}) | os.environ

    def run(lock: int) -> None:
        said = command.folder / "output.txt"
        print(f"$ {command}\n  says in {said}", flush=True)
        with said.open("a") as file:
            done = subprocess.run(words, stdout=file, stderr=subprocess.STDOUT, env=environment, pass_fds=[lock])
        if done.returncode:
            last = (said.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
            raise UserError(
                f"`{command}` ended with status {done.returncode} and said: {last} (more in {said}). The same "
                "experiment, started again, goes on from there."
            )

    once(command.folder, [command.module, *command.arguments], run)


def link_stages(model: Model) -> None:
    """Make the model's folder complete."""
    model.folder.mkdir(parents=True, exist_ok=True)
    for stage, target in model.links.items():
        link = model.folder / stage
        link.unlink(missing_ok=True)  # the shared runs may have moved
        link.symlink_to(target.resolve(), target_is_directory=True)


def make_models(models: list[Model], jobs: int) -> None:
    """Train what is not trained yet, `jobs` variants side by side, then put pipelines together."""
    for model in models:
        link_stages(model)

    def train(trainings: tuple[Command, ...]) -> None:
        for command in trainings:
            run_command(command, max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else 0)

    Parallel(jobs, backend="threading")(delayed(train)(each) for each in dict.fromkeys(m.trainings for m in models))
    for model in models:
        run_command(model.assembly)


def measure(row: Row, clips: list[Clip], options: ExperimentOptions) -> EvaluationReport:
    """Generate the clips of a row and measure them, unless that is done."""
    folder = row.model.folder / f"{FOLDERS[row.method]}_{len(clips)}_clips"
    pipeline = str(row.model.pipeline)

    def run(_: int) -> None:
        print(f"# {row.title}: {len(clips)} clips into {folder}", flush=True)
        copy_truth(clips, folder / "truth")
        generate(pipeline, clips, {row.method: folder / "videos"}, options.seed, options.workers)
        made = evaluate(
            folder / "videos",
            folder / "truth",
            (PROTOCOL,),
            name=row.title,
            fid_backbone=options.fid_backbone,
            workers=options.workers,
        )
        made.report.save(folder / "report.json")

    once(folder, ["measure", pipeline, options.test_corpus, str(options.seed), options.fid_backbone], run)
    return EvaluationReport.load(folder / "report.json")


def check(rows: list[Row], options: ExperimentOptions) -> None:
    """Find mistakes now rather than after hours.

    Raises:
        UserError: a shared stage or the corpus is missing, or a script lacks an option.
    """
    for command in trainings_of(rows):
        missing = refused(command)
        if missing:
            raise UserError(f"`{command}` is not understood: {missing}")
    targets = {target for row in rows for target in row.model.links.values() if target.parent == Path(options.runs)}
    absent = sorted(str(target) for target in targets if not (target / "results.json").exists())
    if absent:
        raise UserError(f"{', '.join(absent)} must be trained first; see the order of stages in the model card.")
    if not (Path(options.corpus) / "metadata.jsonl").exists():
        raise UserError(f"{options.corpus} is no corpus; see README.md for how to make one.")


def refused(command: Command) -> str:
    """Why a script would not take its arguments, or ""."""
    stage = next((stage for stage, script in SCRIPTS.items() if script.module == command.module), "assemble")
    try:
        parse_options(SCRIPTS[stage].options, stage, list(command.arguments))
    except UserError as error:
        return str(error)
    return ""


def trainings_of(rows: list[Row]) -> list[Command]:
    """Each once, in their order."""
    return list(dict.fromkeys(command for row in rows for command in row.model.trainings))


def run_experiment(rows: list[Row], clips: list[Clip], options: ExperimentOptions) -> dict[str, Any]:
    """Make and measure all rows. Returns what the page shows of them."""
    make_models([row.model for row in rows], options.jobs)
    lines, truth, notes = [], {}, []
    for row in rows:
        report = measure(row, clips, options)
        truth = scores(next(method for method in report.methods if method.is_ground_truth))
        method = next(method for method in report.methods if not method.is_ground_truth)
        notes += [note for note in report.notes if note not in notes]
        lines.append(
            {
                "title": row.title,
                "share": row.share,
                "scores": scores(method),
                "rejected": len(method.rejected),
                "paper": row.paper,
                "training": training_of(row.model) if row.method != STAGE_1 else {},
            }
        )
    return {
        "commands": [str(command) for command in trainings_of(rows)],
        "perceptual_backbones": perceptual_backbones(rows),
        "rows": lines,
        "ground_truth": truth,
        "clips": len(clips),
        "notes": notes,
    }


def perceptual_backbones(rows: list[Row]) -> list[str]:
    """Networks that trainings with a perceptual loss compared pictures with, without their places."""
    named = [command.settings.get("--perceptual_backbone") for command in trainings_of(rows)]
    return sorted({name.partition("=")[0] for name in named if name})


def scores(method: MethodResults) -> dict[str, float | None]:
    """{metric: value} of the protocol. A perfect PSNR, which JSON cannot hold, is None."""
    values = {key: score.value for key, score in method.protocols[PROTOCOL].metrics.items()}
    return {key: None if value == float("inf") else value for key, value in values.items()}


def training_of(model: Model) -> dict[str, Any]:
    """{stage: steps, batch_size, seconds, device} of what was trained for a model, the shared stages apart."""
    runs = {command.folder.name: command.folder for command in model.trainings}
    runs["emotion"] = model.folder / "emotion"  # in figure 5, a point on the way
    return {stage: json.loads((run / "results.json").read_text())["training"] for stage, run in runs.items()}


def parameters(configs: list[str]) -> dict[str, Any]:
    """Figure 6: parts of the network at the sizes of configs; nothing is trained."""
    sizes = {}
    for config in configs:
        recipe = Recipe.load(config)
        sizes[recipe.name] = [asdict(share) for share in parameter_shares(empty_pipeline(recipe).components)]
    return {"sizes": sizes}


def empty_pipeline(recipe: Recipe) -> EATPipeline:
    """The pipeline of a config without memory for its weights."""
    with torch.device("meta"):
        return EATPipeline(**{name: recipe.build(name, KEYPOINT_NAMES) for name in EATPipeline.component_names()})


def run(options: ExperimentOptions, recipe: Recipe, command: str) -> None:
    """Raises UserError, in one sentence."""
    results = Path(options.results)
    about = {"command": command, "config": recipe.name, "seed": options.seed}
    if options.experiment == "figure6":
        if not options.dry_run:
            write_results(results, "figure6", about | parameters(list(dict.fromkeys(["official", recipe.name]))))
        return
    rows = getattr(Experiments(options, recipe), options.experiment)()
    if options.dry_run:
        for each in trainings_of(rows):
            print(each)
        for row in rows:
            print(f"# {options.clips or 'all'} test clips of {row.model.pipeline}: {row.title}")
        return
    check(rows, options)
    if not (Path(options.test_corpus) / "metadata.jsonl").exists():
        build_corpus(plan_of(replace(ReproduceOptions(), corpus=options.test_corpus)), options.workers)
    clips = choose_clips(options.test_corpus, options.clips)
    write_results(results, options.experiment, about | run_experiment(rows, clips, options))


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    options, recipe = parse_options(ExperimentOptions, "experiments", argv)
    run(options, recipe, shlex.join(["python", "-m", "training.experiments.tables", *argv]))


if __name__ == "__main__":
    run_script(main)
