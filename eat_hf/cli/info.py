"""`eat-hf info` and `eat-hf detect-watermark`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import UserError, visible
from ..pipeline.bundled import find_model, load_pipeline
from .messages import show

if TYPE_CHECKING:
    from ..adapters.emotion_adapter import AdapterConfig
    from ..pipeline.pipeline_eat import EATPipeline


def detect_watermark(video: Annotated[Path, typer.Argument(help="The video to look at.", show_default=False)]) -> None:
    """Tell whether a video carries the invisible mark of eat_hf. Exit status: 0 if it does, 1 if it does not."""
    from ..media.videos import read_video
    from ..media.watermark import THRESHOLD, find_watermark

    evidence = find_watermark(read_video(video))
    found = f"score {evidence.score:.1f} over {evidence.frames} frames"
    if not evidence.marked:
        show(f"not marked: {found}; a mark would score above {THRESHOLD:g}")
        raise SystemExit(1)
    show(f"marked: {found}; by chance in less than one video of {1 / max(evidence.false_alarm, 1e-300):.0e}")


def info(model: Annotated[str | None, typer.Argument(help="Folder or Hub id.", show_default=False)] = None) -> None:
    """Show a model's parts, their sizes, its emotions and its licence; or what an emotion adapter is."""
    from ..adapters.emotion_adapter import CONFIG, AdapterConfig, find_adapter

    folder = Path(model) if model is not None and os.path.isfile(os.path.join(model, CONFIG)) else None
    if folder is None:
        try:
            show(describe(load_pipeline(find_model(model))))
            return
        except UserError as no_pipeline:
            if model is None or os.path.exists(model):
                raise
            try:  # a repository of the Hub may hold either
                folder = find_adapter(model)
            except UserError:
                raise no_pipeline from None
    show(describe_adapter(AdapterConfig.load(folder), folder))


def describe(pipeline: "EATPipeline") -> str:
    """Components with parameter counts and shares, like the paper's Figure 6, emotions and licence."""
    from ..models.parameters import BEFORE_THE_NETWORK, count_parameters, parameter_shares

    shares = parameter_shares(pipeline.components)
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
    from ..adapters.emotion_adapter import count_parameters

    sizes = count_parameters(folder)
    rows = [*sizes.items(), ("adapter", sum(sizes.values())), ("base", config.base_parameters)]
    lines = [f"emotion adapter: {', '.join(config.emotions)}", f"base: {config.base_model}"]
    lines += [f"{'part':<32}{'parameters':>14}{'of the base':>13}"]
    lines += [f"{name:<32}{size:>14,}{size / config.base_parameters:>13.2%}" for name, size in rows]
    lines += [f"prompts: {config.prompt_type}", f"made with: eat_hf {config.library_version}"]
    facts = ", ".join(visible(f"{name} {value}", 500) for name, value in config.training.items())
    lines += [f"training: {facts or 'not stated'}"]
    lines += [f"licence: {_licence(str(folder))}"]
    return "\n".join(lines)


def _licence(model: str | None) -> str:
    from ..hub.cards import find_card

    card = find_card(model)
    if card is None:
        return "not stated (the model has no card)"
    return visible(card.data.get("license_name") or card.data.get("license") or "not stated", 500)
