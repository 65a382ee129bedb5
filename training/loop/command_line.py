"""Options of every script: dataclass defaults, then the script's section of a YAML config, then the command line."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import yaml
from simple_parsing import ArgumentGenerationMode, ArgumentParser, DashVariant

from eat_hf.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")
CONFIGS = Path(__file__).parents[1] / "configs"


@dataclass
class Step:
    """One of those in which a whole model is trained.

    Attributes:
        name: of its own; run: the script, as `stage_1b_a2et`; arguments: its command line, `{work}` for the folder of
            everything; minutes_cpu, minutes_gpu: how long it takes on two cores and on one GPU.
    """

    name: str
    run: str
    arguments: str
    minutes_cpu: float
    minutes_gpu: float


@dataclass
class Recipe:
    """A YAML config of `training/configs`: classes and settings of components, options of stages, and in which order a
    whole model is trained, if it says so.

    Its name is what was given to find it: that of a config here, or the path of a file. A file that names another as
    its `base` has what that has, but for the components and stages that it names itself.
    """

    name: str
    components: dict[str, dict[str, Any]]
    stages: dict[str, dict[str, Any]]
    recipe: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recipe = [Step(**step) if isinstance(step, dict) else step for step in self.recipe]

    @classmethod
    def load(cls, name_or_path: str) -> "Recipe":
        """Raises UserError if it is neither a config here nor a file."""
        path = Path(name_or_path)
        if not path.is_file():
            path = CONFIGS / f"{name_or_path}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(config.stem for config in CONFIGS.glob("*.yaml")))
            raise UserError(f"There is no config {name_or_path}; give a YAML file or one of {known}.")
        sections = yaml.safe_load(path.read_text())
        if "base" in sections:
            base = cls.load(sections.pop("base"))
            for name in ("components", "stages"):
                sections[name] = {**getattr(base, name), **sections.get(name, {})}
        return cls(name_or_path, **sections)

    def build(self, component: str, keypoint_names: Sequence[str] = (), **more: Any) -> Any:
        """A new network, of the class and with the settings that the config gives a component of the pipeline.

        Args:
            keypoint_names: of the corpus; settings that are lists of such names become their indices.
            more: settings beside those of the config, or in place of them.

        Raises:
            UserError: the corpus has no keypoint of a name.
        """
        settings = dict(self.components[component])
        for name, value in settings.items():
            if isinstance(value, list) and value and isinstance(value[0], str):
                unknown = sorted(set(value) - set(keypoint_names))
                if unknown:
                    raise UserError(f"{component} needs the keypoints {', '.join(unknown)}, which the corpus lacks.")
                settings[name] = tuple(keypoint_names.index(each) for each in value)
        from eat_hf.models.components import build_component  # takes seconds to import, which few scripts need

        return build_component(settings, **more)


def latent_folder(runs: Path, component: str) -> Path:
    """Where stage 1a left its keypoint_detector, motion_estimator or repos_net: enhanced, if the run `enhancement` is
    among `runs`, for the three only fit each other; else from the runs that taught them one by one."""
    run = {"keypoint_detector": "detector", "motion_estimator": "estimator", "repos_net": "renderer"}[component]
    return runs / ("enhancement" if (runs / "enhancement" / component).exists() else run) / component


class OptionParser(ArgumentParser):
    """Options as fields of a dataclass; a mistake is a UserError."""

    def __init__(self, **settings: Any):
        super().__init__(
            argument_generation_mode=ArgumentGenerationMode.FLAT,
            add_option_string_dash_variants=DashVariant.UNDERSCORE_AND_DASH,
            allow_abbrev=False,
            **settings,
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message[:1].upper()}{message[1:]}; --help shows what there is.")


def read_options(kind: type[Options], argv: list[str] | None = None) -> Options:
    """The options of a script that no config knows.

    Args:
        kind: a dataclass; a field's help is its metadata "help", where a per cent sign is written twice.
        argv: the command line, by default that of the process.

    Raises:
        UserError: an option is unknown, its value is not of its type, or one is missing.
    """
    parser = OptionParser(description=_about(kind))
    parser.add_arguments(kind, "options")
    return parser.parse_args(argv).options


def parse_options(kind: type[Options], stage: str, argv: list[str] | None = None) -> tuple[Options, Recipe]:
    """Read `--config NAME_OR_FILE` (default: demo) and the options of `kind` for a stage.

    `--stage NAME` takes another section of the config than the script's own, as for a second run of the same script.

    Raises:
        UserError: an option is unknown, on the command line or in the config's section of the stage, its value is not
            of its type, or one is missing; or there is no such config, or no section of the name given.
    """
    which = OptionParser(add_help=False)
    which.add_argument("--config", default="demo", metavar="NAME_OR_FILE", help="One of training/configs, or a file.")
    which.add_argument("--stage", default=stage, metavar="NAME", help="Section of the config.")
    known, rest = which.parse_known_args(sys.argv[1:] if argv is None else argv)
    recipe = Recipe.load(known.config)
    if known.stage != stage and known.stage not in recipe.stages:
        raise UserError(f"The config {known.config} has no stage {known.stage!r}, only {', '.join(recipe.stages)}.")
    section = recipe.stages.get(known.stage, {})
    unknown = sorted(set(section) - {option.name for option in fields(kind)})
    if unknown:
        raise UserError(f"The config {known.config} sets {', '.join(unknown)}, which stage {known.stage!r} lacks.")
    parser = OptionParser(parents=[which], description=_about(kind))
    parser.add_arguments(kind, "options")
    parser.set_defaults(options=section)  # an option that the config sets need not be given again
    return parser.parse_args(rest).options, recipe


def _about(kind: type) -> str | None:
    """The first line of the module of a kind of options."""
    about = sys.modules[kind.__module__].__doc__
    return about and about.splitlines()[0]


def run_script(main: Callable[[], int | None]) -> NoReturn:
    """Call a script's `main` with the process' command line and leave with its status; a user's mistake is one line on
    stderr and status 2."""
    try:
        raise SystemExit(main())
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
