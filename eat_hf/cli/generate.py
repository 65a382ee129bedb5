"""`eat-hf generate` and `eat-hf learn-emotion`."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import UserError
from ..names import as_name, check_name
from ..pipeline.bundled import MODEL_VARIABLE, find_model, load_pipeline

if TYPE_CHECKING:
    from ..pipeline.pipeline_eat import EATPipeline


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


def learn_emotion(
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
    from ..adapters.tuning import LearningOptions, LearningStep

    if steps < 0:
        raise UserError(f"--steps must be 0 or more, not {steps}.")
    name = check_name(name or as_name(output.name))
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
            name,
            clip=clip,
            options=LearningOptions(steps),
            generator=seed,
            watch=watch,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    adapter.save(output)
    print(output)
