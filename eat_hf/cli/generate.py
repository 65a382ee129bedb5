"""`eat-hf generate` and `eat-hf learn-emotion`."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..constants import VOICE_EMOTION_VARIABLE
from ..errors import UserError
from ..inputs.numbers import SEEDS, check_whole_number
from ..media.files import existing_file
from ..names import as_name, check_name
from ..pipeline.bundled import MODEL_VARIABLE, find_model, known_emotions, load_pipeline
from .messages import say, show
from .process import interrupted_later

if TYPE_CHECKING:
    from ..pipeline.pipeline_eat import EATPipeline

SOME_FAILED = 1  # exit status of a manifest whose other videos were made
STEPS = (0, 100_000)


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
            "Videos that exist are skipped; several runs share the rest, and so does `accelerate launch -m eat_hf.cli "
            "generate`. Exit status: 1 if some could not be made.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help=f"Folder or Hub id. Default: ${MODEL_VARIABLE}, else the bundled model.")
    ] = None,
    emotion: Annotated[
        str | None,
        typer.Option(
            help="A name, a mixture: happy=0.7,surprised=0.3, or voice, what --voice-emotion hears. Default: the first "
            "adapter's, else neutral."
        ),
    ] = None,
    timeline: Annotated[
        str | None, typer.Option(help="Emotions by time in seconds: 0:neutral,1.5:happy.", show_default=False)
    ] = None,
    intensity: Annotated[
        str,
        typer.Option(
            help="0 neutral, 1 as trained, up to 1.5; a number, by time: 0:0.2,2:1, or voice, how lively the voice is."
        ),
    ] = "1",
    voice_emotion: Annotated[
        str | None,
        typer.Option(
            help="Model that hears the emotions of --emotion voice: folder or Hub id of one of transformers for audio "
            f"classification. Default: ${VOICE_EMOTION_VARIABLE}.",
            show_default=False,
        ),
    ] = None,
    voice_labels: Annotated[
        str | None,
        typer.Option(
            help="What its labels mean, where their names do not say it: LABEL_0=happy,LABEL_1=sad.",
            show_default=False,
        ),
    ] = None,
    head_motion: Annotated[
        str, typer.Option(help="natural, still, a driving video, or a saved .safetensors motion.")
    ] = "natural",
    head_amount: Annotated[
        float | None, typer.Option(help="How much the head moves, 0 to 2. Default: 1.", show_default=False)
    ] = None,
    blinks: Annotated[
        float | None,
        typer.Option(help="How often lids shut, 0 to 2; of a given motion, how far. Default: 1.", show_default=False),
    ] = None,
    gaze: Annotated[
        float | None, typer.Option(help="How far eyes move, 0 to 2. Default: 1.", show_default=False)
    ] = None,
    face: Annotated[
        int | None, typer.Option(help="Which of several faces, from 0 in order of prominence.", show_default=False)
    ] = None,
    audio_track: Annotated[
        int | None,
        typer.Option(help="Which of a file's sound tracks, from 0. Default: the first with sound.", show_default=False),
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
    size: Annotated[
        str | None,
        typer.Option(
            help="Side of the frames: 256, 512, 1024, or portrait, what the face in the picture has. "
            "Default: 512 where the model can; with --paste-back, portrait.",
            show_default=False,
        ),
    ] = None,
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
    from .jobs import Job, check, make_video, prepare, run_manifest

    def load(device: str | None = None) -> "EATPipeline":
        import torch

        from ..pipeline.precision import is_emulated

        pipeline = load_pipeline(model_place).to(getattr(torch, dtype))
        for place in adapter or ():
            pipeline.load_adapter(place)
        if device is not None:
            pipeline.to(device)
        if pipeline.device.type == "cpu" and is_emulated(pipeline.repos_net.dtype):
            say(f"eat-hf: this processor has no instructions for {dtype}, which takes longer than float32 here.")
        if compiled:
            say("eat-hf: the renderer is compiled with its first frames, which takes a minute or more.")
        return pipeline.compile() if compiled else pipeline

    def default(pipeline: "EATPipeline") -> str:
        """The first adapter's emotion, if there is one."""
        return pipeline.emotions[len(pipeline.emotion_mapper.config.emotions)] if adapter else "neutral"

    if manifest is not None:
        if any(
            given is not None
            for given in (image, audio, emotion, timeline, emotion_text, face, seed, audio_track, size)
            + (head_amount, blinks, gaze, voice_emotion, voice_labels)
        ):
            raise UserError("With --manifest, what a video is made of stands in its line, not in other options.")
        model_place = find_model(model)
        emotions = known_emotions(model_place, adapter or ())
        made, failed = run_manifest(manifest, load, default, watermark, emotions)
        if failed:
            say(f"eat-hf: {len(failed)} of {len(made) + len(failed)} videos could not be made; see above.")
            raise SystemExit(SOME_FAILED)
        return
    if image is None or audio is None:
        raise UserError(f"Give {'--image' if image is None else '--audio'}, or a --manifest of many videos.")
    job = Job(
        *(image, audio, output, emotion, timeline, emotion_text, intensity, head_motion, face, seed, paste_back),
        audio_track=audio_track,
        size=size,
        head_amount=head_amount,
        blinks=blinks,
        gaze=gaze,
        voice_emotion=voice_emotion,
        voice_labels=voice_labels,
    )
    # everything that can be wrong and is quick to see comes before the model is loaded
    check(job)
    model_place = find_model(model)
    ready = prepare(job, known_emotions(model_place, adapter or ()))
    pipeline = load()
    make_video(pipeline, ready, default(pipeline), watermark)
    show(output)


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
    steps: Annotated[int, typer.Option(help="At most; interrupted (Ctrl-C), it keeps the best so far.")] = 40,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
) -> None:
    """Learn an emotion from a sentence, with CLIP, as an adapter."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists and is not empty; choose another folder.")
    check_whole_number(steps, "--steps", STEPS)
    check_whole_number(seed, "--seed", SEEDS)
    for path, kind in ((image, "picture"), (audio, "recording")):
        existing_file(path, kind)
    model_place = find_model(model)
    emotion = check_name(name if name is not None else as_name(output.resolve().name))
    if emotion in (known_emotions(model_place) or ()):
        raise UserError(f"There is an emotion {emotion!r} already; give this one another --name.")
    from ..adapters.tuning import LearningOptions, LearningStep

    pipeline = load_pipeline(model_place)
    with ExitStack() as learning:
        interrupted = None

        def watch(reached: LearningStep) -> bool:
            nonlocal interrupted
            if interrupted is None:  # from now on there is something to keep
                interrupted = learning.enter_context(interrupted_later())
            if reached.looked == reached.step:
                found = f"similarity {reached.similarity:.4f} (best {reached.best:.4f})"
                say(f"step {reached.step}: {found}")
            return not interrupted()

        adapter = pipeline.learn_emotion(
            text, image, audio, emotion, clip=clip, options=LearningOptions(steps), generator=seed, watch=watch
        )
        adapter.save(output)
        show(output)
