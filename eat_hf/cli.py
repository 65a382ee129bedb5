"""The command line, `eat-hf`. Heavy imports wait until a command needs them, so that --help answers at once."""

import os
import shlex
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.exceptions import Abort, TyperException

from .errors import InputWarning, UserError

if TYPE_CHECKING:
    from .adapters import AdapterConfig
    from .evaluation.report import ParameterShare
    from .pipeline import EATPipeline

MODEL_VARIABLE = "EAT_HF_MODEL"
BUNDLED_MODEL = Path("checkpoints_card") / "eat-demo"
INTERRUPTED = 130

app = typer.Typer(
    name="eat-hf",
    help="Emotional talking-head videos from one portrait and a voice.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command()
def generate(
    image: Annotated[
        Path | None, typer.Option(help="Portrait: a picture with a face in it.", show_default=False)
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="Speech: any sound file, or a video with sound.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The video to write.")] = Path("out.mp4"),
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="CSV of many videos (image, audio, output, and options of each), in place of --image and --audio. "
            "Videos that exist are skipped; `accelerate launch -m eat_hf.cli generate` shares them out.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help=f"Folder or Hub id. Default: ${MODEL_VARIABLE}, else the bundled model.")
    ] = None,
    emotion: Annotated[
        str | None,
        typer.Option(help="A name, or a mixture: happy=0.7,surprised=0.3. Default: the first adapter's, else neutral."),
    ] = None,
    timeline: Annotated[
        str | None, typer.Option(help="Emotions by time in seconds: 0:neutral,1.5:happy.", show_default=False)
    ] = None,
    intensity: Annotated[
        str, typer.Option(help="0 neutral, 1 as trained, up to 1.5; a number, or by time: 0:0.2,2:1.")
    ] = "1",
    head_motion: Annotated[
        str, typer.Option(help="natural, still, a driving video, or a saved .safetensors motion.")
    ] = "natural",
    face: Annotated[
        int | None, typer.Option(help="Which of several faces, from 0 in order of prominence.", show_default=False)
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(help="Folder or Hub id of an emotion adapter; may be given again.", show_default=False),
    ] = None,
    emotion_text: Annotated[
        str | None, typer.Option(help="The emotion in words: 'slightly smiling'.", show_default=False)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same video.")] = None,
    paste_back: Annotated[bool, typer.Option("--paste-back", help="Put the face back into the whole picture.")] = False,
    watermark: Annotated[
        bool, typer.Option(help="Mark the frames invisibly as AI-generated; see detect-watermark.")
    ] = True,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="Of the renderer; halves are faster where the processor computes in them."),
    ] = "float32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the renderer first: a minute that pays for many or long videos.")
    ] = False,
) -> None:
    """Animate a portrait with a recording, or many of them."""
    from .jobs import Job, make_video, prepare, run_manifest

    def load(device: str | None = None) -> "EATPipeline":
        import torch

        pipeline = load_pipeline(model_place).to(getattr(torch, dtype))
        for place in adapter or ():
            pipeline.load_adapter(place)
        if device is not None:
            pipeline.to(device)
        return pipeline.compile() if compiled else pipeline

    def default(pipeline: "EATPipeline") -> str:
        """The first adapter's emotion, if there is one."""
        return pipeline.emotions[len(pipeline.emotion_mapper.config.emotions)] if adapter else "neutral"

    if manifest is not None:
        if any(given is not None for given in (image, audio, emotion, timeline, emotion_text, face, seed)):
            raise UserError("With --manifest, what a video is made of stands in its line, not in other options.")
        model_place = find_model(model)
        made, failed = run_manifest(manifest, load, default, watermark)
        if failed:
            raise UserError(f"{len(failed)} of {len(made) + len(failed)} videos could not be made; see above.")
        return
    if image is None or audio is None:
        raise UserError(f"Give {'--image' if image is None else '--audio'}, or a --manifest of many videos.")
    job = Job(image, audio, output, emotion, timeline, emotion_text, intensity, head_motion, face, seed, paste_back)
    # everything that can be wrong and is quick to see comes before the model is loaded
    ready = prepare(job)
    model_place = find_model(model)
    pipeline = load()
    make_video(pipeline, ready, default(pipeline), watermark)
    print(output)


@app.command("learn-emotion")
def learn_emotion_command(
    text: Annotated[list[str], typer.Option(help="What the face should look like; several phrasings are averaged.")],
    image: Annotated[Path, typer.Option(help="Portrait to learn with; the emotion is for any other, too.")],
    audio: Annotated[Path, typer.Option(help="Neutral speech to learn with.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The adapter's folder to write.")],
    name: Annotated[str | None, typer.Option(help="Of the emotion. Default: the folder's.", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option(help=f"Folder or Hub id. Default: ${MODEL_VARIABLE}, else the bundled model.")
    ] = None,
    clip: Annotated[
        str | None,
        typer.Option(help="CLIPModel that judges: folder or Hub id. Default: the paper's, or the model's own."),
    ] = None,
    steps: Annotated[int, typer.Option(help="At most; interrupted (Ctrl-C), the best so far is kept.")] = 40,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
) -> None:
    """Learn an emotion from a sentence, with CLIP, as an adapter."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists and is not empty; choose another folder.")
    from .words import LearningOptions, LearningStep

    if steps < 0:
        raise UserError(f"--steps must be 0 or more, not {steps}.")
    pipeline = load_pipeline(find_model(model))
    interrupted = False

    def stop(signum, frame) -> None:
        nonlocal interrupted
        interrupted = True

    def watch(reached: LearningStep) -> bool:
        if reached.looked == reached.step:
            found = f"similarity {reached.similarity:.4f} (best {reached.best:.4f})"
            print(f"step {reached.step}: {found}", file=sys.stderr)
        return not interrupted

    before = signal.signal(signal.SIGINT, stop)
    try:
        adapter = pipeline.learn_emotion(
            text,
            image,
            audio,
            name or output.name,
            clip=clip,
            options=LearningOptions(steps),
            generator=seed,
            watch=watch,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    adapter.save(output)
    print(output)


@app.command()
def convert(
    checkpoint: Annotated[Path, typer.Option(help="The authors' emotional checkpoint (.pth.tar).")],
    latent_checkpoint: Annotated[Path, typer.Option(help="Their enhanced latent representation (.pth.tar).")],
    pca: Annotated[Path, typer.Option(help="Folder with U_mead.npy and mean_mead.npy.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; it must not exist or be empty.")],
    deepspeech: Annotated[Path | None, typer.Option(help="Frozen graph of DeepSpeech 0.1.0 (.pb).")] = None,
    padding: Annotated[Path | None, typer.Option(help="pad.npy, what is heard before and after a clip.")] = None,
    template: Annotated[Path | None, typer.Option(help="M003_template.npy, for aligning portraits.")] = None,
) -> None:
    """Turn the authors' release into a folder for the Hub."""
    from .convert import convert_official

    convert_official(
        checkpoint,
        latent_checkpoint,
        pca,
        deepspeech_graph=deepspeech,
        padding=padding,
        template=template,
        output_dir=output,
    )
    print(output)


@app.command("convert-judge")
def convert_judge_command(
    kind: Annotated[str, typer.Option(help="syncnet, sync-expert, emotion-fan, inception or vgg19.")],
    checkpoint: Annotated[Path, typer.Option(help="The public checkpoint (.model, .pth, .pth.tar, .safetensors).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; it must not exist or be empty.")],
) -> None:
    """Turn a public network that scores videos into a folder for `evaluate`."""
    from .convert_judges import convert_judge

    convert_judge(kind, checkpoint, output)
    print(output)


@app.command()
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
    from .evaluation import evaluate as run
    from .evaluation import terminal_table, write_page
    from .evaluation.suite import check_report_target

    check_report_target(output)
    protocols = (protocol,) if protocol else ("eat_official", "standard")
    parameters: list[ParameterShare] = []
    if model is not None:
        from .evaluation.parameters import parameter_shares

        parameters = parameter_shares(load_pipeline(find_model(model)))
    found = run(
        generated,
        reference,
        protocols,
        name=name,
        syncnet=None if syncnet == "none" else syncnet,
        emotion_judge=None if emotion_judge == "none" else emotion_judge,
        fid_backbone=fid_backbone,
        perceptual_backbone=perceptual_backbone,
        parameters=parameters,
        workers=workers,
        device=None,
        command="eat-hf " + " ".join(map(shlex.quote, sys.argv[1:])),
    )
    found.report.save(output)
    page = write_page(found.report, output.with_suffix(".html"), found.figures)
    print(terminal_table(found.report, colour=sys.stdout.isatty()))
    print(f"{output}\n{page}")


@app.command()
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
    device: Annotated[str | None, typer.Option(help="Such as cuda. Default: as for generate.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the numbers, BENCHMARK.md and a plot.", show_default=False),
    ] = None,
) -> None:
    """Measure speed, stage by stage, and against one frame at a time in float32 with nothing kept."""
    from .benchmark import OFFICIAL, BenchmarkOptions, official_pipeline, run_benchmark
    from .media import SHORTEST_RECORDING

    examples = Path(__file__).resolve().parents[1] / "examples"
    files = [given or examples / name for given, name in ((image, "portrait.png"), (audio, "speech.wav"))]
    for file, option in zip(files, ("--image", "--audio"), strict=True):
        if not file.is_file():
            raise UserError(f"There is no file {file}; name one with {option}.")
    try:
        batches, lengths = (tuple(int(number) for number in text.split(",") if text) for text in (batch, long))
    except ValueError:
        raise UserError(
            f"--batch and --long are whole numbers with a comma between them, not {batch} {long}."
        ) from None
    if min(batches, default=0) < 1 or min(lengths, default=1) < 1:
        raise UserError("--batch and --long must be at least 1.")
    if seconds < SHORTEST_RECORDING * (4 if curves else 1):
        raise UserError("--seconds must be at least 0.8, or 0.2 with --no-curves.")
    place = OFFICIAL if model == OFFICIAL else find_model(model)
    pipeline = official_pipeline() if place == OFFICIAL else load_pipeline(place)
    if device is not None:
        pipeline.to(device)
    dtypes = tuple(dtype.split(","))
    options = BenchmarkOptions(str(files[0]), str(files[1]), seconds, batches, dtypes, curves, compiled, long=lengths)
    command = "eat-hf " + " ".join(map(shlex.quote, sys.argv[1:]))
    report = run_benchmark(pipeline, place, options, command)

    from rich.console import Console
    from rich.table import Table

    console = Console()
    head, lines = report.table()
    table = Table(*head, title=f"Speed of {Path(place).name}", title_justify="left")
    for line in lines:
        table.add_row(*line)
    console.print(table)
    for fact in report.facts():
        console.print(fact, highlight=False)
    if output is not None:
        for path in report.save(output):
            print(path)


@app.command("detect-watermark")
def detect_watermark(video: Annotated[Path, typer.Argument(help="The video to look at.", show_default=False)]) -> None:
    """Tell whether a video carries the invisible mark of eat_hf. Exit status: 0 if it does, 1 if it does not."""
    from .media import read_video
    from .watermark import THRESHOLD, find_watermark

    evidence = find_watermark(read_video(video))
    found = f"score {evidence.score:.1f} over {evidence.frames} frames"
    if not evidence.marked:
        print(f"not marked: {found}; a mark would score above {THRESHOLD:g}")
        raise SystemExit(1)
    print(f"marked: {found}; by chance in less than one video of {1 / max(evidence.false_alarm, 1e-300):.0e}")


@app.command()
def info(model: Annotated[str | None, typer.Argument(help="Folder or Hub id.", show_default=False)] = None) -> None:
    """Show a model's parts, their sizes, its emotions and its licence; or what an emotion adapter is."""
    from .adapters import CONFIG, AdapterConfig, find_adapter

    folder = Path(model) if model is not None and (Path(model) / CONFIG).is_file() else None
    if folder is None:
        try:
            print(describe(load_pipeline(find_model(model))))
            return
        except UserError as no_pipeline:
            if model is None or Path(model).exists():
                raise
            try:  # a repository of the Hub may hold either
                folder = find_adapter(model)
            except UserError:
                raise no_pipeline from None
    print(describe_adapter(AdapterConfig.load(folder), folder))


def find_model(model: str | None = None) -> str:
    """The model's folder or Hub id: as named, the environment's choice, or the bundled checkpoint.

    Raises:
        UserError: there is none, or the folder holds something else.
    """
    model = model or os.environ.get(MODEL_VARIABLE) or _bundled_model()
    folder = Path(model)
    if folder.exists() and not (folder / "model_index.json").is_file():
        raise UserError(f"{model} is not a model folder: it has no model_index.json.")
    if not folder.exists() and (folder.is_absolute() or model.count("/") != 1):
        raise UserError(f"The model {model} does not exist.")
    return model


def _bundled_model() -> str:
    package = Path(__file__).resolve().parent
    for parent in (package, package.parent):  # as installed, and in a source checkout
        if (parent / BUNDLED_MODEL / "model_index.json").is_file():
            return str(parent / BUNDLED_MODEL)
    raise UserError(f"No bundled model was found; name one with --model or ${MODEL_VARIABLE}.")


def load_pipeline(model: str) -> "EATPipeline":
    """Load a model that `find_model` found onto the GPU, if there is one.

    Raises:
        UserError: it cannot be loaded.
    """
    import torch
    from diffusers.utils import logging

    from .pipeline import EATPipeline

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    pipeline = EATPipeline.from_pretrained(model)
    return pipeline.to("cuda" if torch.cuda.is_available() else "cpu")


def describe(pipeline: "EATPipeline") -> str:
    """Components with parameter counts and shares, like the paper's Figure 6, emotions and licence."""
    from .evaluation.parameters import BEFORE_THE_NETWORK, count_parameters, parameter_shares

    shares = parameter_shares(pipeline)
    network = sum(part.parameters for part in shares)
    tuned = sum(part.parameters for part in shares if part.tuned)
    lines = [f"{'part':<32}{'parameters':>14}{'share':>9}"]
    lines += [f"{part.name:<32}{part.parameters:>14,}{part.parameters / network:>9.2%}" for part in shares]
    lines += [
        f"{'emotional adaptation (of these)':<32}{tuned:>14,}{tuned / network:>9.2%}",
        f"{'network':<32}{network:>14,}{1:>9.2%}",
    ]
    for name in BEFORE_THE_NETWORK:
        component = pipeline.components[name]
        size = "none" if component is None else f"{count_parameters(component):,}"
        lines.append(f"{name:<32}{size:>14}")
    lines.append(f"emotions: {', '.join(pipeline.emotions)}")
    lines.append(f"licence: {_licence(pipeline.name_or_path)}")
    return "\n".join(lines)


def describe_adapter(config: "AdapterConfig", folder: Path) -> str:
    """An adapter's emotions, base, size by part and share of the base, training facts and licence."""
    from .adapters import count_parameters

    sizes = count_parameters(folder)
    rows = [*sizes.items(), ("adapter", sum(sizes.values())), ("base", config.base_parameters)]
    lines = [f"emotion adapter: {', '.join(config.emotions)}", f"base: {config.base_model}"]
    lines += [f"{'part':<32}{'parameters':>14}{'of the base':>13}"]
    lines += [f"{name:<32}{size:>14,}{size / config.base_parameters:>13.2%}" for name, size in rows]
    lines += [f"prompts: {config.prompt_type}", f"made with: eat_hf {config.library_version}"]
    lines += [f"training: {', '.join(f'{name} {value}' for name, value in config.training.items()) or 'not stated'}"]
    lines += [f"licence: {_licence(str(folder))}"]
    return "\n".join(lines)


def _licence(model: str | None) -> str:
    from .cards import find_card

    card = find_card(model)
    if card is None:
        return "not stated (the model has no card)"
    return card.data.get("license_name") or card.data.get("license") or "not stated"


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    print(f"warning: {message}", file=sys.stderr)


def _terminate(signum, frame) -> None:
    raise SystemExit(128 + signum)  # unwinds, so that unfinished files are removed


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake is one line and exit status 2, a programming error keeps its traceback."""
    signal.signal(signal.SIGTERM, _terminate)
    warnings.simplefilter("ignore")
    warnings.simplefilter("always", InputWarning)
    warnings.showwarning = _show_warning
    try:
        app(arguments or sys.argv[1:] or ["--help"], standalone_mode=False, prog_name="eat-hf")
    except UserError as error:
        _fail(str(error))
    except TyperException as error:
        _fail(error.format_message())
    except (KeyboardInterrupt, Abort):
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def _fail(message: str) -> None:
    print(f"eat-hf: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
