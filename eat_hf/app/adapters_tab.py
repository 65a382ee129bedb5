"""New emotions: load their adapters, mix them with the others, put one's own on the Hub."""

import gradio as gr

from ..errors import UserError
from ..inputs.emotions import MAX_INTENSITY, parse_emotion
from .components import AT_ONCE, any_name
from .inputs import Inputs, emotion_choices
from .notices import as_code
from .result import Result, shown
from .studio import Session, Studio

NONE_LOADED = "No adapter is loaded. An adapter adds an emotion; it is yours alone until you close the page."


def adapters_tab(studio: Studio, inputs: Inputs, result: Result) -> None:
    """Endpoints /load_adapter, /load_adapter_files, /unload_adapter, /mix and /push_adapter."""
    with gr.Row(equal_height=True):
        repository = gr.Textbox(label="Repository on the Hub", placeholder="OWNER/NAME", min_width=200, scale=2)
        rename = gr.Textbox("", label="Name (optional)", placeholder="as the adapter says", min_width=140, scale=1)
    with gr.Row():
        load = gr.Button("Load from the Hub", min_width=150)
        upload = gr.UploadButton("Upload a folder", file_count="directory", min_width=150, elem_id="adapter-folder")
    status = gr.Markdown(NONE_LOADED, elem_id="adapter-status")
    with gr.Row(equal_height=True, visible=False) as loaded_row:
        loaded = any_name(gr.Dropdown([], label="Loaded adapters", min_width=200, scale=2, elem_id="loaded-adapters"))
        unload = gr.Button("Unload", min_width=100)

    with gr.Accordion("Mix emotions", open=True):
        own = studio.pipe.emotions
        sliders = []
        with gr.Row(elem_id="mixer"):
            for index in range(len(own) + studio.limits.adapters):
                known = index < len(own)
                value = 0.7 if index < len(own) and own[index] == "happy" else 0.0
                slider = gr.Slider(
                    0,
                    1,
                    value=value,
                    step=0.05,
                    label=own[index].capitalize() if known else "",
                    visible=known,
                    min_width=150,
                    buttons=[],
                    elem_id=f"mix-{own[index]}" if known else f"mix-adapter-{index - len(own)}",
                )
                sliders.append(slider)
        mixture = gr.Textbox("happy=0.7", label="Mixture", info="only the proportions count", elem_id="mixture")
        intensity = gr.Slider(0, MAX_INTENSITY, value=1, step=0.05, label="Intensity")
        start = gr.Button("Make a video of the mixture", variant="primary", elem_id="start-mix")

    with gr.Accordion("Share an adapter on the Hub", open=False):
        with gr.Row():
            target = gr.Textbox("", label="Repository to write to", placeholder="OWNER/NAME", min_width=200)
            token = gr.Textbox(
                label="Your token",
                type="password",
                info="sent with this one upload; never logged or stored",
                min_width=200,
                html_attributes=gr.InputHTMLAttributes(autocomplete="off", spellcheck=False),
                elem_id="token",
            )
        with gr.Row():
            license = gr.Dropdown(
                ["cc0-1.0", "cc-by-4.0", "cc-by-nc-4.0", "apache-2.0"],
                label="Licence",
                value="cc-by-nc-4.0",
                allow_custom_value=True,
                min_width=160,
            )
            private_repository = gr.Checkbox(label="Private", value=True, min_width=100)
        push = gr.Button("Push")
        pushed = gr.Markdown()

    def refresh(session: Session):
        """What depends on the loaded adapters, in the order of `depending`."""
        emotions = studio.emotions(session)
        names = list(session.adapters)
        choices = emotion_choices(studio, session)
        extra = emotions[len(own) :]
        more = [
            gr.Slider(visible=i < len(extra), label=extra[i].capitalize() if i < len(extra) else "", value=0)
            for i in range(studio.limits.adapters)
        ]
        return (
            gr.Dropdown(choices=names, value=names[-1] if names else None),
            gr.Row(visible=bool(names)),
            *more,
            *(_with_choices(picker, choices) for picker in inputs.pickers),
        )

    def _with_choices(picker, choices):
        return (gr.Radio if isinstance(picker, gr.Radio) else gr.Dropdown)(choices=choices)

    def told(session: Session, name: str) -> str:
        config = session.adapters[name].config
        return (
            f"Loaded **{name}**: {', '.join(config.emotions)}, made for {as_code(config.base_model)}. "
            "It is an emotion in all tabs now."
        )

    def load_from_hub(
        session: Session,
        repository: str,
        name: str = "",
        progress=gr.Progress(),  # noqa: B008
    ):
        """Load an adapter for this session; what was loaded."""
        progress(0.2, desc="Asking the Hub")
        session, name = studio.load_from_hub(session, repository, name.strip())
        return session, told(session, name)

    def load_files(session: Session, files: list[str] | None, name: str = ""):
        """Load an adapter from the files of its folder for this session; what was loaded."""
        session, name = studio.load_folder(session, files or [], name.strip())
        return session, told(session, name)

    def forget(session: Session, name: str | None):
        """Unload an adapter of this session."""
        if not name:
            raise UserError("Choose the adapter to unload.")
        return studio.unload(session, name), f"Unloaded {name}."

    def write_mixture(session: Session, *weights: float) -> str:
        emotions = studio.emotions(session)
        shares = {name: weight for name, weight in zip(emotions, weights, strict=False) if weight > 0}
        return ",".join(f"{name}={weight:g}" for name, weight in shares.items())

    def mix(
        session: Session,
        portrait: str | None,
        voice: str | None,
        mixture: str = "happy=0.7,surprised=0.3",
        intensity: float = 1.0,
        progress=gr.Progress(),  # noqa: B008
    ):
        """A video of a mixture of emotions, the Python code that makes the same, and nothing."""
        progress(0, desc="Reading the portrait and the voice")
        if not mixture.strip():
            raise UserError("Give at least one emotion a weight above 0.")
        request = studio.request(session, portrait, voice, parse_emotion(mixture), intensity, name="mixture.mp4")
        code = studio.python_code(session, portrait, voice, request)
        yield from shown(studio.make_video(session, request), code)

    def push_adapter(
        session: Session,
        name: str | None,
        repository: str,
        token: str,
        private: bool = True,
        license: str = "cc-by-nc-4.0",
        progress=gr.Progress(),  # noqa: B008
    ):
        """Upload an adapter of this session; where it is, and nothing in place of the token."""
        if not name:
            raise UserError("Load an adapter first; there is nothing to push yet.")
        progress(0.2, desc="Uploading")
        address = studio.push(session, name, repository, token, private, license)
        return f"Pushed **{name}**: [{address}]({address})", ""

    depending = [loaded, loaded_row, *sliders[len(own) :], *inputs.pickers]
    gr.on(
        [load.click, repository.submit],
        load_from_hub,
        [inputs.session, repository, rename],
        [inputs.session, status],
        api_name="load_adapter",
    )
    upload.upload(load_files, [inputs.session, upload, rename], [inputs.session, status], api_name="load_adapter_files")
    unload.click(forget, [inputs.session, loaded], [inputs.session, status], api_name="unload_adapter")
    inputs.session.change(refresh, inputs.session, depending, **AT_ONCE)
    for slider in sliders:
        slider.release(write_mixture, [inputs.session, *sliders], mixture, **AT_ONCE)
    inputs.link.add("adapters", mixture=mixture, intensity=intensity)
    result.listen(start.click, mix, [*inputs.given, mixture, intensity], "mix")
    push.click(
        push_adapter,
        [inputs.session, loaded, target, token, private_repository, license],
        [pushed, token],
        api_name="push_adapter",
    )
