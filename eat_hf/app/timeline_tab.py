"""Emotions that follow each other along the voice."""

from html import escape

import gradio as gr

from ..errors import UserError
from ..inputs.emotions import (
    CROSS_FADE,
    MAX_INTENSITY,
    parse_intensity,
    parse_timeline,
    write_intensity,
    write_timeline,
)
from ..serving.telling import told
from .components import AT_ONCE, PRIVATE, any_name
from .fair_queue import NETWORKS
from .inputs import Inputs, emotion_choices
from .result import Result, shown
from .studio import Session, Studio
from .waveform import draw_waveform

FIRST = "0:neutral, 0.8:happy, 2:surprised"
EMPTY = '<div class="eat-empty">Give a voice to see it here, with the emotions drawn on it.</div>'
CLICKED = """
element.addEventListener('click', event => {
    const svg = element.querySelector('svg');
    if (!svg) return;
    const box = svg.getBoundingClientRect();
    trigger('select', {value: (event.clientX - box.left) / box.width, index: 0});
});
"""


def timeline_tab(studio: Studio, inputs: Inputs, result: Result) -> None:
    """Keyframes as text, `0:neutral, 1.5:happy`, by clicks, or from the voice; endpoints /timeline, /preview_timeline
    and /from_voice."""
    waveform = gr.HTML(EMPTY, js_on_load=CLICKED, elem_id="waveform", container=False)
    with gr.Row(equal_height=True):
        moment = gr.Slider(
            0,
            10,
            value=0,
            step=0.05,
            label="From second",
            info="or click on the waveform",
            elem_id="moment",
            min_width=200,
            scale=2,
        )
        emotion = any_name(
            gr.Dropdown(
                emotion_choices(studio, Session()),
                value="happy",
                label="Emotion",
                min_width=140,
                elem_id="timeline-emotion",
            )
        )
        inputs.pickers.append(emotion)
    with gr.Row(equal_height=True):
        add = gr.Button("Set emotion from here", min_width=160, size="md")
        remove = gr.Button("Remove the nearest", min_width=140, size="md")
        listen = gr.Button("From the voice", min_width=140, size="md", elem_id="from-voice")
    timeline = gr.Textbox(
        FIRST,
        label="Timeline",
        info=f"seconds:emotion, cross-faded over {CROSS_FADE} s; mixtures are written 2:happy=0.7+surprised=0.3",
        elem_id="timeline",
    )
    intensity = gr.Textbox(
        "1",
        label="Intensity",
        info=f"0 to {MAX_INTENSITY}, 1 as trained; or by time, 0:0.5, 2:1.2, linear in between",
        elem_id="timeline-intensity",
    )
    look = gr.Button("Preview frames")
    stills = gr.Gallery(
        label="Preview", columns=4, height=None, visible=False, format="jpeg", elem_id="stills", object_fit="contain"
    )
    start = gr.Button("Make the video", variant="primary", elem_id="start-timeline")

    def draw(session: Session, voice: str | None, timeline: str, intensity: str):
        """HTML of the voice coloured by the timeline, or what is wrong with it; and the time slider's length."""
        if not voice:
            return EMPTY, gr.skip()
        try:
            recording = studio.limits.read_voice(voice)
            track = studio.track(session, parse_timeline(timeline), parse_intensity(intensity))
        except UserError as error:  # in place: a notice for each letter that is typed would be too much
            return f'<div class="eat-empty" role="alert">{escape(told(str(error)))}</div>', gr.skip()
        seconds = max(round(recording.seconds - 0.05, 1), 0.1)
        return draw_waveform(recording, track, studio.emotions(session)), gr.Slider(maximum=seconds)

    def change(timeline: str, moment: float, emotion: str | None) -> str:
        """Replace the keyframe near that moment, or add one; without emotion, remove the nearest."""
        entries = [entry.strip() for entry in timeline.split(",") if entry.strip()]
        times = [seconds for seconds, _ in parse_timeline(timeline)] if entries else []
        near = min(range(len(times)), key=lambda i: abs(times[i] - moment), default=None)
        if near is not None and (emotion is None or abs(times[near] - moment) < CROSS_FADE / 4):
            del entries[near], times[near]
        if emotion is not None:
            entries.append(f"{moment:.2f}".rstrip("0").rstrip(".") + f":{emotion}")
            times.append(moment)
        if not entries:
            raise UserError("A timeline needs one emotion at least.")
        return ", ".join(entry for _, entry in sorted(zip(times, entries, strict=True)))

    def put(timeline: str, moment: float, emotion: str) -> str:
        return change(timeline, moment, emotion)

    def take_away(timeline: str, moment: float) -> str:
        return change(timeline, moment, None)

    def pick(voice: str | None, event: gr.SelectData):
        recording = studio.limits.read_voice(voice)
        return round(min(max(float(event.value), 0), 1) * (recording.seconds - 0.05), 2)

    def preview(
        session: Session,
        portrait: str | None,
        voice: str | None,
        timeline: str = FIRST,
        intensity: str = "1",
        progress=gr.Progress(),  # noqa: B008
    ):
        """A frame of every keyframe, with captions."""
        progress(0.1, desc="A frame of every emotion")
        request = studio.request(session, portrait, voice, parse_timeline(timeline), parse_intensity(intensity))
        return studio.keyframes(session, request)

    def film(
        session: Session,
        portrait: str | None,
        voice: str | None,
        timeline: str = FIRST,
        intensity: str = "1",
        progress=gr.Progress(),  # noqa: B008
    ):
        """A video whose emotion follows the timeline, the Python code that makes the same, and nothing."""
        progress(0, desc="Reading the portrait and the voice")
        felt = parse_timeline(timeline), parse_intensity(intensity)
        request = studio.request(session, portrait, voice, *felt, name="timeline.mp4")
        code = studio.python_code(session, portrait, voice, request)
        yield from shown(studio.make_video(session, request), code)

    def hear(session: Session, voice: str | None, timeline: str = FIRST, progress=gr.Progress()):  # noqa: B008
        """The timeline of what the voice feels, where a model hears that, and of how lively it is."""
        progress(0.1, desc="Listening to the voice")
        emotion, strength = studio.from_voice(session, voice)
        return timeline if emotion is None else write_timeline(emotion), write_intensity(strength)

    gr.on(
        [inputs.voice.change, timeline.change, intensity.change],
        draw,
        [inputs.session, inputs.voice, timeline, intensity],
        [waveform, moment],
        trigger_mode="always_last",
        **AT_ONCE,
    )
    waveform.select(pick, inputs.voice, moment, **PRIVATE)
    add.click(put, [timeline, moment, emotion], timeline, **PRIVATE)
    remove.click(take_away, [timeline, moment], timeline, **PRIVATE)
    listen.click(
        hear,
        [inputs.session, inputs.voice, timeline],
        [timeline, intensity],
        api_name="from_voice",
        concurrency_id=NETWORKS,
    )
    settings = [*inputs.given, timeline, intensity]
    look.click(lambda: gr.Gallery(visible=True), None, stills, **AT_ONCE).then(
        preview, settings, stills, api_name="preview_timeline", concurrency_id=NETWORKS
    )
    inputs.link.add("timeline", timeline=timeline, intensity=intensity)
    result.listen(start.click, film, settings, "timeline")
