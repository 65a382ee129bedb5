"""The page: portrait and voice on one side, a tab for each thing to do with them on the other."""

import os
from collections.abc import Callable, Sequence

import gradio as gr

from ..pipeline.pipeline_eat import EATPipeline
from .adapters_tab import adapters_tab
from .compare_tab import compare_tab
from .inputs import Inputs, build_inputs
from .limits import Limits
from .make_video_tab import make_video_tab
from .notices import show_input_warnings
from .studio import EXAMPLES, Example, Session, Studio, find_examples
from .timeline_tab import timeline_tab
from .words_tab import words_tab

TABS: tuple[tuple[str, Callable[[Studio, Inputs], None]], ...] = (
    ("Make a video", make_video_tab),
    ("Words", words_tab),
    ("Timeline", timeline_tab),
    ("Adapters", adapters_tab),
    ("Compare", compare_tab),
)
CLEAN_UP = (300, 3000)  # seconds: how often to look for files of visitors, and how old they may get
SESSION_SECONDS = 3600  # after which what a visitor has loaded is forgotten
WAITING = 40  # requests in the queue

TITLE = "EAT: emotional talking heads"
INTRODUCTION = f"""# {TITLE}
One portrait and a voice become a talking video with the emotion you choose. Click an example, or bring your own."""
FOOTER = """[Paper](https://arxiv.org/abs/2309.04946): *Efficient Emotional Adaptation for Audio-Driven Talking-Head
Generation*, Gan et al., ICCV 2023. Videos made here say in their metadata that they are AI-generated and carry an
invisible watermark, which `eat-hf detect-watermark VIDEO` finds."""

CSS = """
.gradio-container { max-width: min(1240px, 100vw) !important; margin: 0 auto !important; }
.gradio-container .main { padding: 12px clamp(8px, 3vw, 32px) !important; }
.eat-note, .eat-note p { font-size: var(--text-sm); color: var(--body-text-color-subdued); margin: 0; }
.eat-waveform svg { display: block; cursor: pointer; }
.eat-waveform .eat-times { display: flex; justify-content: space-between; font-size: var(--text-xs);
    color: var(--body-text-color-subdued); }
.eat-waveform ul { display: flex; flex-wrap: wrap; gap: 4px 14px; list-style: none; padding: 0; margin: 8px 0 0;
    font-size: var(--text-sm); }
.eat-waveform li { display: flex; align-items: center; margin: 0; }
.eat-waveform li span { width: 10px; height: 10px; border-radius: 50%; margin-right: 6px; }
.eat-empty { padding: 28px 12px; text-align: center; color: var(--body-text-color-subdued);
    border: 1px dashed var(--border-color-primary); border-radius: var(--radius-lg); }
#mixer .form { background: none; border: 0; display: grid;
    grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
#stills .grid-wrap, #words-stills .grid-wrap { height: auto; max-height: none; min-height: 0; }
#stills .grid-container { grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); }
/* also of the hidden buttons by which Gradio measures how many tabs fit */
@media (max-width: 640px) { .tab-container button { padding: 8px 6px !important; font-size: 13px !important; } }
"""


def build_app(
    pipe: EATPipeline,
    limits: Limits | None = None,
    model: str | None = None,
    examples: Sequence[Example] | None = None,
) -> gr.Blocks:
    """The page of a pipeline.

    Args:
        limits: of what visitors may send.
        model: folder or Hub id of the pipeline, for the code that visitors take away. Default: where it was loaded.
        examples: to click on. Default: those of a source checkout.
    """
    limits = limits or Limits()
    studio = Studio(
        pipe, limits, model or pipe.name_or_path or "MODEL", find_examples() if examples is None else tuple(examples)
    )
    show_input_warnings()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=CLEAN_UP) as demo:
        gr.Markdown(INTRODUCTION)
        session = gr.State(Session(), time_to_live=SESSION_SECONDS)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                inputs = build_inputs(studio, session)
            with gr.Column(scale=3, min_width=300), gr.Tabs():
                for name, build in TABS:
                    with gr.Tab(name):
                        build(studio, inputs)
        gr.Markdown(FOOTER, elem_classes="eat-note")
    # one at a time on a GPU, two on a CPU, where a clip does not keep all cores busy
    limit = 1 if pipe.device.type == "cuda" else 2
    return demo.queue(max_size=WAITING, default_concurrency_limit=limit)


def launch(demo: gr.Blocks, **options):
    """Serve the page; options are those of `gradio.Blocks.launch`."""
    theme = gr.themes.Soft(
        primary_hue="indigo",
        neutral_hue="slate",
        font=["Inter", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    given = {
        "theme": theme,
        "css": CSS,
        "max_file_size": f"{Limits().megabytes}mb",
        "allowed_paths": [str(EXAMPLES)],
        "ssr_mode": False,
    }
    # Gradio would keep what a visitor sends, tokens among it, in the browser
    return demo.launch(**{**given, "run_history": False, **options})
