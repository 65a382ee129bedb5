"""Model cards of pipelines and adapters: the README.md of their folders on the Hub."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, cast

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import httpx

from .client import REPOSITORY_NAME

HERE = Path(__file__).parent
TASK = "image-to-video"  # the Hub's nearest: it has no name for talking heads
TAGS = ["talking-head", "audio-driven", "emotion", "eat"]
A_FOLDER = "path/to/this/folder"


class Part(Protocol):
    """A part of a network: its name, how many parameters it has, and whether emotional adaptation tunes it."""

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> int: ...
    @property
    def tuned(self) -> bool: ...


def base_card(
    emotions: Sequence[str],
    parts: Sequence[Part],
    repo_id: str = A_FOLDER,
    *,
    license: str | None = None,
    metrics: Mapping[str, float] | None = None,
    dataset: str = "clips of its test split",
    samples: Sequence[str] = (),
) -> str:
    """Card of a whole pipeline.

    Args:
        emotions: names that it knows.
        parts: of its network, which do not overlap.
        repo_id: what `from_pretrained` is told to find it.
        license: as the Hub names it, such as "cc0-1.0".
        metrics: what was measured, by name.
        dataset: on what.
        samples: paths of pictures in the folder, such as "samples/happy.png".
    """
    return _render(
        "base_card.md.j2",
        _data(repo_id, license, metrics, dataset, samples),
        repo_id=repo_id,
        emotions=emotions,
        emotion="happy" if "happy" in emotions else emotions[-1],
        parts=parts,
        network=sum(part.parameters for part in parts),
        tuned=sum(part.parameters for part in parts if part.tuned),
        metrics=metrics,
        dataset=dataset,
        samples=_captioned(samples),
    )


def adapter_card(
    config: Mapping[str, Any],
    repo_id: str = A_FOLDER,
    *,
    license: str | None = None,
    parameters: int | None = None,
    metrics: Mapping[str, float] | None = None,
    dataset: str = "held-out clips",
    samples: Sequence[str] = (),
) -> str:
    """Card of an adapter.

    Args:
        config: what adapter_config.json says: emotions, base_model, base_parameters, training.
        repo_id: what `load_adapter` is told to find it.
        parameters: how many it has.
        license, metrics, dataset, samples: as in `base_card`.
    """
    base, emotions = config["base_model"], list(config["emotions"])
    on_the_hub = REPOSITORY_NAME.fullmatch(base) and not Path(base).exists()
    relation = {"base_model": base, "base_model_relation": "adapter"} if on_the_hub else {}
    return _render(
        "adapter_card.md.j2",
        _data(repo_id, license, metrics, dataset, samples, tags=["adapter", *emotions], **relation),
        repo_id=repo_id,
        base=f"[{base}](https://huggingface.co/{base})" if on_the_hub else f"`{base}`",
        base_model=base,
        emotions=emotions,
        emotion=emotions[0],
        mixture=f'{{"{emotions[0]}": 0.6, "neutral": 0.4}}',
        parameters=parameters,
        share=parameters / config["base_parameters"] if parameters else None,
        training=config.get("training"),
        metrics=metrics,
        dataset=dataset,
        samples=_captioned(samples),
    )


def with_results(card: str, metrics: Mapping[str, float], dataset: str) -> str:
    """A card that says in its front matter, as a `model-index`, what was measured, in place of what it said before.

    Args:
        card: the whole README.md; its first heading names the model.
        metrics, dataset: as in `base_card`.

    Raises:
        ValueError: the card has no heading.
    """
    known = ModelCard(card, ignore_metadata_errors=True)
    heading = re.search(r"^# (.+)$", known.text, re.MULTILINE)
    if heading is None:
        raise ValueError("The card has no heading, which names the model.")
    data, results = cast(ModelCardData, known.data), _results(metrics, dataset)
    data.model_name, data.eval_results = heading[1], results
    data.metrics = [result.metric_type for result in results]
    return str(known)


def find_card(place: str | os.PathLike | None) -> ModelCard | None:
    """The card of a folder or Hub repository; None if it has none, or none can be had."""
    if place is None:
        return None
    card = Path(place, "README.md")
    if Path(place).is_dir() and not card.is_file():
        return None
    try:
        return ModelCard.load(card if card.is_file() else os.fspath(place), ignore_metadata_errors=True)
    except (OSError, httpx.HTTPError, HFValidationError):
        return None


def _data(
    repo_id: str,
    license: str | None,
    metrics: Mapping[str, float] | None,
    dataset: str,
    samples: Sequence[str] = (),
    tags: Sequence[str] = (),
    **more: Any,
) -> ModelCardData:
    results = _results(metrics or {}, dataset)
    if samples:  # what the model's page on the Hub shows beside its title
        more["widget"] = [{"text": s["caption"], "output": {"url": s["path"]}} for s in _captioned(samples)]
    return ModelCardData(
        library_name="eat_hf",
        pipeline_tag=TASK,
        license=license,
        tags=[*TAGS, *tags],
        metrics=[result.metric_type for result in results] or None,
        model_name=_title(repo_id) if results else None,
        eval_results=results or None,
        **more,
    )


def _results(metrics: Mapping[str, float], dataset: str) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=slug(dataset),
            dataset_name=dataset,
            metric_type=slug(name),
            metric_name=name,
            metric_value=value,
        )
        for name, value in metrics.items()
    ]


def _render(template: str, data: ModelCardData, **facts: Any) -> str:
    card = ModelCard.from_template(data, template_path=str(HERE / template), title=_title(facts["repo_id"]), **facts)
    return re.sub(r"\n{3,}", "\n\n", str(card)).rstrip() + "\n"


def _title(repo_id: str) -> str:
    return "EAT" if repo_id == A_FOLDER else PurePosixPath(repo_id).name


def slug(name: str) -> str:
    """A name in small letters, digits and underscores."""
    return re.sub(r"\W+", "_", name).strip("_").lower()


def _captioned(samples: Sequence[str]) -> list[dict[str, str]]:
    return [{"path": path, "caption": PurePosixPath(path).stem.replace("_", " ")} for path in samples]
