"""The page: portrait and voice on one side, a tab for each thing to do with them on the other."""

import gc
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import gradio as gr
from starlette.middleware import Middleware

from ..pipeline.pipeline_eat import EATPipeline
from ..serving.limits import Limits
from ..serving.turns import Turns
from .adapters_tab import adapters_tab
from .compare_tab import compare_tab
from .door import Door
from .fair_queue import FairQueue
from .gate import Gate
from .inputs import Inputs, build_inputs
from .live_tab import SCRIPT as LIVE_SCRIPT
from .live_tab import live_tab
from .make_video_tab import make_video_tab
from .notices import show_input_warnings
from .result import Result, build_result
from .storage import Storage, own_folder
from .studio import Example, Session, Studio, find_examples
from .timeline_tab import timeline_tab
from .welcome import welcome
from .words_tab import words_tab

TABS: tuple[tuple[str, str, Callable[[Studio, Inputs, Result], None]], ...] = (
    ("make", "Make a video", make_video_tab),
    ("words", "Words", words_tab),
    ("timeline", "Timeline", timeline_tab),
    ("live", "Live", live_tab),
    ("adapters", "Adapters", adapters_tab),
    ("compare", "Compare", compare_tab),
)
SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf8")
CLEAN_UP = 300  # seconds between looks for old files of visitors
SESSION_SECONDS = 3600  # after which what a visitor has loaded is forgotten

# by page: what its limits say to `gradio.Blocks.launch`, and what is made ahead of visitors
SERVING: WeakKeyDictionary[gr.Blocks, Callable[[], dict[str, Any]]] = WeakKeyDictionary()
AHEAD: WeakKeyDictionary[gr.Blocks, Callable[[], None]] = WeakKeyDictionary()

TITLE = "EAT: emotional talking heads"
INTRODUCTION = f"""# {TITLE}
One portrait and a voice become a talking video with the emotion you choose."""
FOOTER = """[Paper](https://arxiv.org/abs/2309.04946): *Efficient Emotional Adaptation for Audio-Driven Talking-Head
Generation*, Gan et al., ICCV 2023. Videos made here say in their metadata that they are AI-generated and carry an
invisible watermark, which `eat-hf detect-watermark VIDEO` finds."""

CSS = """
.gradio-container { max-width: min(1240px, 100vw) !important; margin: 0 auto !important; }
.gradio-container .main { padding: 12px clamp(8px, 2vw, 24px) !important; }
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
#live canvas { display: block; width: min(100%, 512px, max(256px, 46vh)); aspect-ratio: 1; margin: 0 auto;
    border-radius: var(--radius-lg); }
#live p { text-align: center; margin: 8px 0 0; }
#live .eat-live-figures { min-height: 1.5em; margin: 0; }
#live-tab:not([data-state=live]) .eat-live-status { padding: 28px 12px; color: var(--body-text-color-subdued);
    border: 1px dashed var(--border-color-primary); border-radius: var(--radius-lg); }
#live-tab[data-state=wrong] .eat-live-status { color: var(--error-text-color); border-color: var(--error-border-color);
    background: var(--error-background-fill); }
#live-tab:not([data-state=live]) :is(canvas, .eat-live-figures),
#live-tab:is([data-state=waiting], [data-state=live]) #start-live,
#live-tab:not([data-state=waiting], [data-state=live]) #stop-live { display: none; }
#mixer .form { background: none; border: 0; display: grid;
    grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
#mixer .head { flex-wrap: nowrap; }
#mixer input[type=number] { width: 4em; }
#stills .grid-wrap, #words-stills .grid-wrap, #emotions .grid-wrap { height: auto; max-height: none; min-height: 0; }
#emotions .grid-container { gap: 4px; grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
#emotions .thumbnail-lg { width: 100%; }
#emotions .caption-label { left: 0; right: 0; bottom: 0; max-width: none; padding: 1px 4px; text-align: center;
    font-size: 11px; border-radius: 0; background: rgb(15 23 42 / 70%); color: white; }
#stills .grid-container { grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); }
@media (max-width: 760px) { #results { order: -1; } .gradio-container h1 { font-size: 22px; } }
/* also of the hidden buttons by which Gradio measures how many tabs fit */
.tab-container button { padding: 8px 9px !important; }
body:not(.dark) .tab-container button.selected { color: var(--primary-700); }
.dark .tab-container button.selected { color: var(--primary-300); }
body:not(.dark) #voice { --neutral-400: var(--neutral-600); }
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
    examples = find_examples() if examples is None else tuple(examples)
    studio = Studio(pipe, limits, model or pipe.name_or_path or "MODEL", examples)
    show_input_warnings()
    folder = own_folder()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(CLEAN_UP, int(limits.kept_seconds))) as demo:
        gr.Markdown(INTRODUCTION)
        session = gr.State(Session(), time_to_live=SESSION_SECONDS)
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=3, min_width=260):
                inputs = build_inputs(studio, session)
            with gr.Column(scale=4, min_width=320, elem_id="results", render=False) as results:
                result = build_result()
            with gr.Column(scale=5, min_width=320), gr.Tabs(elem_id="tabs") as tabs:
                for name, title, build in TABS:
                    with gr.Tab(title, id=name, elem_id=f"tab-{name}"):
                        build(studio, inputs, result)
            results.render()
            with results:
                AHEAD[demo] = welcome(demo, studio, inputs, result, tabs)
            result.let_stop()
        gr.Markdown(FOOTER, elem_classes="eat-note")
    # one works at a time on a GPU, two on a CPU, where a clip does not keep all cores busy
    at_once = 1 if pipe.device.type == "cuda" else 2
    demo.queue(max_size=limits.waiting, default_concurrency_limit=at_once, api_open=False)
    turns = Turns(at_once)
    demo._queue = FairQueue(
        limits.visitor_waiting,
        limits.under_way,
        limits.address_under_way,
        limits.unnamed_under_way,
        limits.patience,
        lambda: turns.send_away(limits.crowded_seconds),
        live_updates=True,
        concurrency_count=demo.max_threads,
        update_intervals=1,
        max_size=limits.waiting,
        blocks=demo,
        default_concurrency_limit=at_once,
    )
    Gate(demo, limits, turns)
    door = Middleware(
        Door,
        limits=limits,
        storage=Storage(folder, limits),
        is_event=lambda number: number in demo.fns,
        live=studio.live,
    )
    SERVING[demo] = lambda: {
        "app_kwargs": {"middleware": [door]},
        "max_file_size": f"{limits.megabytes}mb",
        "allowed_paths": [str(path) for example in examples for path in (example.portrait, example.voice)],
        "state_session_capacity": limits.sessions,
    }
    return demo


def launch(demo: gr.Blocks, **options):
    """Serve the page; options are those of `gradio.Blocks.launch`."""
    theme = gr.themes.Soft(
        primary_hue="indigo",
        neutral_hue="slate",
        font=["Inter", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(  # enough contrast for small letters (WCAG AA)
        background_fill_primary="*neutral_50",  # as it was: `set` forgets it
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_label_text_color="*primary_700",
        block_title_text_color="*primary_700",
        button_primary_background_fill="*primary_600",
        link_text_color_dark="*primary_300",
        link_text_color_visited_dark="*primary_300",
        checkbox_label_background_fill_selected="*primary_600",
    )
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    given = {
        "theme": theme,
        "css": CSS,
        "head": f"<script>{LIVE_SCRIPT}\n{SCRIPT}</script>",
        "ssr_mode": False,
        "enable_monitoring": False,
        "run_history": False,  # would keep what a visitor sends, tokens among it, in the browser
    }
    if demo in AHEAD and not os.environ.get("SPACES_ZERO_GPU"):  # where GPUs are lent to visitors alone
        threading.Thread(target=AHEAD[demo], daemon=True, name="examples").start()
    gc.freeze()  # what is there now stays, and need not be looked through after every request
    return demo.launch(**{**given, **SERVING.get(demo, dict)(), **options})
