"""An emotion described in a sentence: seen at once, refined with CLIP, then used in all tabs or taken away."""

import gradio as gr

from ..adapters.emotion_adapter import EmotionAdapter
from ..adapters.tuning import LearningStep
from ..errors import UserError
from ..inputs.emotions import MAX_INTENSITY
from .components import AT_ONCE, PRIVATE
from .fair_queue import NETWORKS
from .inputs import Inputs
from .result import Result, shown
from .studio import Refinement, Session, Studio

HINT = (
    "Say what the face should look like; several phrasings of one wish, a line each, count as their mean. Examples: "
    "*slightly smiling with raised eyebrows*, *a wrinkled nose*, *She is talking while crying hard.*"
)
NOT_YET = "Preview or refine an emotion first; there is nothing to take yet."


def words_tab(studio: Studio, inputs: Inputs, result: Result) -> None:
    """Endpoints /preview_words, /refine_words, /use_words and /words."""
    gr.Markdown(HINT, elem_classes="eat-note")
    text = gr.Textbox(
        "slightly smiling with raised eyebrows",
        label="Emotion in words",
        lines=2,
        max_length=studio.limits.words,
        elem_id="words",
    )
    with gr.Row(equal_height=True):
        name = gr.Textbox("", label="Name (optional)", placeholder="of the emotion", min_width=140)
        intensity = gr.Slider(0, MAX_INTENSITY, value=1, step=0.05, label="Intensity", min_width=200)
    draft, running = gr.State(None), gr.State(Refinement())  # the EmotionAdapter so far
    look = gr.Button("Preview", elem_id="preview-words")
    stills = gr.Gallery(
        label="Neutral, and in these words",
        columns=3,
        height=None,
        visible=False,
        format="jpeg",
        elem_id="words-stills",
        object_fit="contain",
    )
    steps = gr.Slider(
        5, studio.limits.steps, value=min(40, studio.limits.steps), step=5, label="Steps of refinement",
        info="CLIP looks at frames and tunes the emotion; stop when you like what you see",
    )  # fmt: skip
    with gr.Row():
        refine = gr.Button("Refine with CLIP", scale=3, min_width=160, elem_id="refine-words")
        stop_refining = gr.Button("Stop", scale=1, min_width=80, elem_id="stop-refining")
    status = gr.Markdown(elem_id="words-status")
    seen = gr.Image(
        label="So far", interactive=False, visible=False, height=260, format="jpeg", elem_id="words-seen", buttons=[]
    )
    with gr.Row():
        use = gr.Button("Use in all tabs", min_width=140, elem_id="use-words")
        download = gr.DownloadButton("Download its adapter", min_width=140, elem_id="download-words")
    start = gr.Button("Make a video in these words", variant="primary", elem_id="start-words")

    def preview(
        session: Session,
        portrait: str | None,
        voice: str | None,
        text: str,
        name: str = "",
        intensity: float = 1.0,
        progress=gr.Progress(),  # noqa: B008
    ):
        """Frames without emotion and in these words; the emotion, a draft; what was done; and its adapter, zipped."""
        progress(0.2, desc="Reading the words")
        request = studio.request(session, portrait, voice, "neutral", intensity)
        adapter = studio.in_words(session, text, name)
        with studio.packed(adapter) as file:
            yield studio.preview(request, adapter), adapter, f"**{_title(adapter)}**, from the words alone.", str(file)

    def tune(
        session: Session,
        portrait: str | None,
        voice: str | None,
        text: str,
        name: str = "",
        steps: int = 40,
        running: Refinement | None = None,
        progress=gr.Progress(),  # noqa: B008
    ):
        """Tune the emotion until CLIP finds that frames look like the words.

        The draft, what was reached, a frame of it, and the draft's adapter, zipped.
        """
        progress(0, desc="Reading the portrait, the voice and the words")
        request = studio.request(session, portrait, voice, "neutral")
        for reached in studio.refine(session, request, text, name, int(steps), running or Refinement()):
            if isinstance(reached, LearningStep):
                progress((reached.step, reached.steps), desc="Refining", unit="steps")
                said = f"Step {reached.step} of {reached.steps}: similarity {reached.similarity:.3f}, "
                said += f"best {reached.best:.3f}"
                yield gr.skip(), said, gr.Image(value=reached.preview, visible=True), gr.skip()
            else:
                facts = reached.config.training
                said = f"**{_title(reached)}**: similarity {facts['similarity']:.3f} after {facts['steps']} steps, "
                with studio.packed(reached) as file:
                    yield reached, said + f"as CLIP sees it ({facts['clip']}).", gr.skip(), str(file)

    def preview_draft(
        session: Session, portrait: str | None, voice: str | None, draft: EmotionAdapter, intensity: float
    ):
        request = studio.request(session, portrait, voice, "neutral", intensity)
        return gr.Gallery(value=studio.preview(request, draft), visible=True), gr.Image(visible=False)

    def take(session: Session, draft: EmotionAdapter | None):
        """Make the draft an emotion of all tabs."""
        if draft is None:
            raise UserError(NOT_YET)
        session, name = studio.use(session, draft)
        return session, f"**{name}** is an emotion in all tabs now; the tab Adapters mixes it with others."

    def film(
        session: Session,
        portrait: str | None,
        voice: str | None,
        text: str,
        name: str = "",
        intensity: float = 1.0,
        draft: EmotionAdapter | None = None,
        progress=gr.Progress(),  # noqa: B008
    ):
        """A video of the draft, or else of the words; the Python code that makes the same; and nothing."""
        progress(0, desc="Reading the portrait, the voice and the words")
        request = studio.request(session, portrait, voice, "neutral", intensity)
        adapter = draft or studio.in_words(session, text, name)
        steps, code = studio.film_words(request, adapter, text, portrait, voice)
        yield from shown(steps, code)

    what = [text, name]
    gr.on([text.change, name.change], lambda: (None, "", None), None, [draft, status, download], **AT_ONCE)
    look.click(lambda: gr.Gallery(visible=True), None, stills, **AT_ONCE).then(
        preview,
        [*inputs.given, *what, intensity],
        [stills, draft, status, download],
        api_name="preview_words",
        concurrency_id=NETWORKS,
    )
    refined = refine.click(
        tune,
        [*inputs.given, *what, steps, running],
        [draft, status, seen, download],
        api_name="refine_words",
        concurrency_id=NETWORKS,
        show_progress_on=[status],
    )
    refined.success(preview_draft, [*inputs.given, draft, intensity], [stills, seen], **PRIVATE)
    stop_refining.click(Refinement.stop, running, None, **AT_ONCE)
    use.click(take, [inputs.session, draft], [inputs.session, status], api_name="use_words")
    inputs.link.add("words", words=text, intensity=intensity)
    result.listen(start.click, film, [*inputs.given, *what, intensity, draft], "words")


def _title(adapter: EmotionAdapter) -> str:
    return adapter.config.emotions[0]
