"""`eat-hf evaluate` and `eat-hf benchmark`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError, shown, visible
from ..inputs.numbers import BATCHES, check_whole_number
from ..pipeline.bundled import find_model, load_pipeline
from ..shipped import shipped
from .extras import needs
from .messages import show

if TYPE_CHECKING:
    from ..models.parameters import ParameterShare
    from ..pipeline.pipeline_eat import EATPipeline

WORKERS = (1, 256)
SECONDS = 3600  # the longest sound that is measured
SESSIONS = 16  # live, at once, at most
LIVE_SIZES, LIVE_SECONDS = (256, 512), 2.0
DTYPES = ("float32", "bfloat16", "float16")


def evaluate(
    generated: Annotated[Path, typer.Option(help="Folder of videos to score.")],
    reference: Annotated[Path, typer.Option(help="Folder of real videos with the same names.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="report.json to write; the page for people goes beside it (.html).")
    ] = Path("report.json"),
    protocol: Annotated[
        str | None, typer.Option(help="eat_official or standard. Default: both.", show_default=False)
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the method. Default: the generated folder's.", show_default=False)
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or Hub id of the model, for its parameter shares.", show_default=False)
    ] = None,
    syncnet: Annotated[str, typer.Option(help="SyncNet: folder, Hub id, bundled or none.")] = "bundled",
    emotion_judge: Annotated[str, typer.Option(help="Emotion-FAN: folder, Hub id, bundled or none.")] = "bundled",
    fid_backbone: Annotated[
        str | None,
        typer.Option(
            help="inception_v3, inception_v3_fid or dlib_resnet, with =PLACE for weights of your own; or none. "
            "Default: inception_v3 if it can be had, else dlib_resnet under its own name.",
            show_default=False,
        ),
    ] = None,
    perceptual_backbone: Annotated[
        str | None, typer.Option(help="vgg19 or hed_vgg16, with =PLACE. Default: none; it is slow.", show_default=False)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes. Default: all cores.", show_default=False)] = None,
) -> None:
    """Score a folder of videos against real ones: table, report.json and a page.

    Videos pair by name. Emotions come from labels.csv (clip,emotion) in either folder, or from names like
    M003_hap_3_001.
    """
    if workers is not None:
        check_whole_number(workers, "--workers", WORKERS)
    with needs("evaluation"):
        from ..evaluation import evaluate as run
        from ..evaluation import terminal_table, write_page
        from ..evaluation.suite import check_report_target

    check_report_target(output)
    protocols = (protocol,) if protocol else ("eat_official", "standard")
    parameters: list[ParameterShare] = []
    if model is not None:
        from ..models.parameters import parameter_shares

        parameters = parameter_shares(load_pipeline(find_model(model)).components)
    found = run(
        generated,
        reference,
        protocols,
        name=visible(name) if name is not None else None,
        syncnet=None if syncnet == "none" else syncnet,
        emotion_judge=None if emotion_judge == "none" else emotion_judge,
        fid_backbone=fid_backbone,
        perceptual_backbone=perceptual_backbone,
        parameters=parameters,
        workers=workers,
        device=None,
        command=shlex.join(["eat-hf", *sys.argv[1:]]),
    )
    found.report.save(output)
    page = write_page(found.report, output.with_suffix(".html"), found.figures)
    print(terminal_table(found.report, colour=sys.stdout.isatty()))
    show(f"{output}\n{page}")


def benchmark(
    model: Annotated[
        str | None,
        typer.Option(help="Folder or Hub id, or official: the published sizes with random weights. Default: bundled."),
    ] = None,
    image: Annotated[Path | None, typer.Option(help="Portrait. Default: an example.", show_default=False)] = None,
    audio: Annotated[Path | None, typer.Option(help="Recording. Default: an example.", show_default=False)] = None,
    seconds: Annotated[float, typer.Option(help="Of the recording that are used.")] = 4.0,
    batch: Annotated[str, typer.Option(help="Frames at a time, a comma between numbers.")] = "1,4,8,16",
    dtype: Annotated[str, typer.Option(help="Precisions of the renderer.")] = "float32,bfloat16",
    long: Annotated[str, typer.Option(help="Seconds of sound whose memory is measured, such as 30,600.")] = "",
    curves: Annotated[bool, typer.Option(help="Plot time against length, portraits and batch.")] = True,
    compiled: Annotated[bool, typer.Option("--compile", help="Measure the compiled renderer, too.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Instead, how far live frames of 256 and 512 pixels are behind their sound.")
    ] = False,
    sessions: Annotated[str, typer.Option(help="Live sessions at once, a comma between numbers.")] = "1,2,3,4",
    device: Annotated[str | None, typer.Option(help="Such as cuda. Default: as for generate.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the numbers, BENCHMARK.md and a plot.", show_default=False),
    ] = None,
) -> None:
    """Measure speed, stage by stage, and against one frame at a time in float32 with nothing kept."""
    with needs("evaluation"):
        from ..benchmark import OFFICIAL, BenchmarkOptions, official_pipeline, run_benchmark
    from ..media.files import one_line
    from ..media.recordings import SHORTEST_RECORDING

    examples = ((image, "examples/portrait.png"), (audio, "examples/speech.wav"))
    files = [given or shipped(example) or Path(example) for given, example in examples]
    for file, option in zip(files, ("--image", "--audio"), strict=True):
        if not file.is_file():
            raise UserError(f"There is no file {file}; name one with {option}.")
    batches, lengths = _whole_numbers(batch, "--batch", BATCHES), _whole_numbers(long, "--long", (1, SECONDS))
    if not batches:
        raise UserError("--batch must name at least one number of frames.")
    least = SHORTEST_RECORDING * (4 if curves else 1)
    if not least <= seconds <= SECONDS:  # which NaN is not
        raise UserError(
            f"--seconds must be at least 0.8, or 0.2 with --no-curves, and at most {SECONDS}, not {seconds:g}."
        )
    dtypes = tuple(dict.fromkeys(dtype.split(",")))
    for name in dtypes:
        if name not in DTYPES:
            raise UserError(f"Unknown precision {name!r} in --dtype; choose {', '.join(DTYPES)}.")
    if output is not None and output.exists() and not output.is_dir():
        raise UserError(f"{output} is not a folder; the numbers need one.")
    place = OFFICIAL if model == OFFICIAL else find_model(model)
    pipeline = official_pipeline() if place == OFFICIAL else load_pipeline(place)
    if device is not None:
        try:
            pipeline.to(device)
        except (RuntimeError, AssertionError) as error:  # of torch: no such kind of device, or none here
            raise UserError(f"The --device {device!r} cannot be used ({one_line(error)}).") from error
    if live:
        _benchmark_live(pipeline, place, files, seconds, sessions, output)
        return
    options = BenchmarkOptions(str(files[0]), str(files[1]), seconds, batches, dtypes, curves, compiled, long=lengths)
    command = shlex.join(["eat-hf", *sys.argv[1:]])
    report = run_benchmark(pipeline, place, options, command)

    from rich.console import Console
    from rich.table import Table

    console = Console()
    head, lines = report.table()
    table = Table(*head, title=f"Speed of {visible(Path(place).name)}", title_justify="left")
    for line in lines:
        table.add_row(*line)
    console.print(table)
    for fact in report.facts():
        console.print(fact, highlight=False)
    if output is not None:
        for path in report.save(output):
            show(path)


def _benchmark_live(
    pipeline: "EATPipeline", place: str, files: list[Path], seconds: float, sessions: str, output: Path | None
) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..benchmark.live import COLUMNS, run_live_benchmark

    counts = _whole_numbers(sessions, "--sessions", (1, SESSIONS))
    if not counts:
        raise UserError("--sessions must name at least one number of sessions.")
    largest = pipeline.repos_net.largest_frames
    sizes = tuple(size for size in LIVE_SIZES if size <= largest)
    report = run_live_benchmark(pipeline, str(files[0]), str(files[1]), max(seconds, LIVE_SECONDS), sizes, counts)
    table = Table(*COLUMNS, title=f"Live, {visible(Path(place).name)}", title_justify="left")
    for row in report.rows:
        table.add_row(*row.cells())
    Console().print(table)
    if output is not None:
        show(report.save(output))


def _whole_numbers(text: str, option: str, limits: tuple[int, int]) -> tuple[int, ...]:
    """Numbers with commas between them."""
    try:
        numbers = dict.fromkeys(int(number) for number in text.split(",") if number.strip())
    except ValueError:
        raise UserError(
            f"{option} is whole numbers with a comma between them, such as 4,16, not {shown(text)}."
        ) from None
    if not all(limits[0] <= number <= limits[1] for number in numbers):
        raise UserError(f"{option} must be at least {limits[0]} and at most {limits[1]}, not {shown(text)}.")
    return tuple(numbers)
