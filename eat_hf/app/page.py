"""The page: portrait and voice on one side, a tab for each thing to do with them on the other."""

import os
from collections.abc import Callable

import gradio as gr

from ..pipeline import EATPipeline
from .adapters_tab import adapters_tab
from .compare_tab import compare_tab
from .inputs import Inputs, build_inputs
from .limits import Limits
from .make_video_tab import make_video_tab
from .notices import show_input_warnings
from .studio import Session, Studio
from .timeline_tab import timeline_tab

TABS: tuple[tuple[str, Callable[[Studio, Inputs], None]], ...] = (
    ("Make a video", make_video_tab),
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
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
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
@media (max-width: 640px) { .gradio-container { padding: 8px !important; } }
"""


def build_app(pipe: EATPipeline, limits: Limits | None = None, model: str | None = None) -> gr.Blocks:
    """The page of a pipeline.

    Args:
        limits: of what visitors may send.
        model: folder or Hub id of the pipeline, for the code that visitors take away. Default: where it was loaded.
    """
    studio = Studio(pipe, limits or Limits(), model or pipe.name_or_path or "checkpoints_card/eat-demo")
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
    given = {"theme": theme, "css": CSS, "max_file_size": f"{Limits().megabytes}mb", "ssr_mode": False, **options}
    return demo.launch(**given)
