"""Emotion adapters: an emotion as a small add-on to a frozen talking head, in a folder of its own.

    adapter_config.json         which emotions, which base they were made for, how they were trained
    adapter_model.safetensors   the head of M for these emotions, EDN, and the EAMs of A2ET and RePos-Net
    README.md                   the model card

An adapter shares everything else with its base, and nothing of the base changes when it is used: its networks are the
base's with a few modules exchanged, see `graft`.
"""

import copy
import json
import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..animation.networks import Adaptation, Networks, Parts, graft
from ..errors import InputWarning, RepositoryError, UserError, visible
from ..hub.cards import adapter_card, slug
from ..hub.client import fetch_folder, push_saved
from ..media.bounded import StoredTensor, check_tensors, read_header, read_json
from ..media.files import one_line, replaced_folder
from ..media.pictures import read_image
from ..models.checked import check_numbers, tensors_of
from ..models.parameters import parameter_shares
from ..names import check_name
from ..version import __version__
from .fingerprint import Base, adaptation_parts, fingerprint

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"
MAX_EMOTIONS = 64  # of one adapter
MOST_PARAMETERS = 10**11

Line = Annotated[str, AfterValidator(lambda text: visible(text, 500))]


class AdapterConfig(BaseModel):
    """What adapter_config.json says.

    Attributes:
        emotions: their names, in the order of their heads of M.
        base_model: name of the base.
        base_fingerprint: of the base's frozen weights, see `fingerprint`.
        base_parameters: of the base's network, as the paper counts them.
        prompt_type: "deep", "shallow" or "none" (Table 4), like the base's.
        library_version: of eat_hf, when the adapter was made.
        training: facts about the training; free.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    emotions: Annotated[
        tuple[Annotated[str, AfterValidator(check_name)], ...], Field(min_length=1, max_length=MAX_EMOTIONS)
    ]
    base_model: Line
    base_fingerprint: dict[str, str]
    base_parameters: Annotated[int, Field(gt=0)]
    prompt_type: Literal["deep", "shallow", "none"]
    library_version: Line = __version__
    training: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "AdapterConfig":
        """Read the folder's adapter_config.json; a key that this version does not know is a warning.

        Raises:
            UserError: it cannot be read, or a key is missing or not what it should be.
        """
        path = folder / CONFIG
        settings = read_json(path, most=MOST_PARAMETERS)
        try:
            found = cls.model_validate_json(json.dumps(settings))
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "its content"
            reason = first["msg"].removeprefix("Value error, ").rstrip(".")
            raise UserError(f"{path} cannot be used; {place}: {reason}.") from error
        unknown = sorted(set(settings) - set(cls.model_fields))
        if unknown:
            listed = ", ".join(visible(key, 64) for key in unknown[:10])
            warnings.warn(f"{path} has keys that are not used: {listed}.", InputWarning, stacklevel=2)
        return found

    def changed(self, **values: Any) -> "AdapterConfig":
        """The same with other values.

        Raises:
            UserError: an emotion cannot be called so.
        """
        for name in values.get("emotions", ()):
            check_name(name)
        return self.model_copy(update=values)


@dataclass(frozen=True, eq=False)
class EmotionAdapter:
    """The modules of some emotions, on top of a base.

    Attributes:
        config: what it is.
        parts: its modules, by the names that `adaptation_parts` gives the base's; `emotion_mapper.heads` are those of
            its own emotions.
    """

    config: AdapterConfig
    parts: Parts

    @classmethod
    def create(
        cls, base: Base, emotions: Sequence[str], start: str, training: dict[str, Any] | None = None
    ) -> "EmotionAdapter":
        """New emotions, which so far look like one of the base: copies of its modules.

        Args:
            emotions: their names.
            start: the base's emotion whose head of M they start from.
            training: facts for the config.

        Raises:
            UserError: the base has no emotion `start`, or an emotion cannot be called so.
        """
        known = list(base.networks.emotion_mapper.config.emotions)
        if start not in known:
            raise UserError(f"The base has no emotion {start!r} to start from, only {', '.join(known)}.")
        config = AdapterConfig(
            emotions=tuple(check_name(name) for name in emotions),
            base_model=base.name,
            base_fingerprint=fingerprint(base),
            base_parameters=sum(part.parameters for part in parameter_shares(base.networks.components)),
            prompt_type=base.prompt_type,
            training=training or {},
        )
        return cls(config, _copies(base.networks, known.index(start), len(emotions)))

    @classmethod
    def load(cls, folder: Path, base: Base) -> "EmotionAdapter":
        """Read an adapter's folder, for a base.

        Raises:
            UserError: it is no adapter, was made for another base, or its tensors are not those that it needs.
        """
        config, path = AdapterConfig.load(folder), folder / WEIGHTS
        present = fingerprint(base)
        # a part that only one of the two has, such as a speech encoder, cannot be compared
        common = present.keys() & config.base_fingerprint.keys()
        different = sorted(name for name in common if present[name] != config.base_fingerprint[name])
        if different or not common:
            base_name = " ".join(config.base_model[:100].split())
            raise UserError(
                f"The adapter {folder} was made for the base {base_name}, and this model differs from that in "
                f"{', '.join(different) or 'everything'}."
            )
        if config.prompt_type != base.prompt_type:
            raise UserError(
                f"The adapter {folder} has {config.prompt_type} prompts, and this model {base.prompt_type} ones."
            )
        if not os.path.lexists(path):
            pickles = sorted(p.name for p in folder.glob("adapter_model.*") if p.suffix in (".bin", ".pt", ".pth"))
            reason = f"; {pickles[0]} is a pickle, which could run any program and is never opened" if pickles else ""
            raise UserError(f"The adapter {folder} has no {WEIGHTS}{reason}.")
        # one emotion's modules say what the file must hold; only then is memory taken for all
        check_tensors(_tensors_needed(base.networks, len(config.emotions)), read_header(path), path)
        adapter = cls(config, _copies(base.networks, 0, len(config.emotions)))
        try:
            with safe_open(path, "pt") as stored:
                for name, tensor in adapter.tensors().items():
                    tensor.copy_(stored.get_tensor(name))
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} cannot be read: {one_line(error)}.") from error
        check_numbers(nn.ModuleList(adapter.parts.values()), path)
        return adapter

    def tensors(self) -> dict[str, Tensor]:
        """Its weights by name, as saved."""
        return {
            f"{name}.{own}": tensor for name, part in self.parts.items() for own, tensor in part.state_dict().items()
        }

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for part in self.parts.values() for parameter in part.parameters())

    def adapt(self, networks: Networks) -> Adaptation:
        """The networks of its base with this adapter's modules."""
        adapted: dict[str, Any] = {}
        for component in ("emotion_mapper", "a2et", "edn", "repos_net"):
            own = {
                name.partition(".")[2]: part for name, part in self.parts.items() if name.partition(".")[0] == component
            }
            adapted[component] = graft(networks.components[component], own)
        return Adaptation(self.config.emotions, **adapted)

    def to(self, device: torch.device | str) -> "EmotionAdapter":
        """Move its modules, in place."""
        for part in self.parts.values():
            part.to(device)
        return self

    def save(self, directory: str | os.PathLike, **card: Any) -> None:
        """Write the adapter's folder: as a whole, in place of an older adapter there, or not at all.

        Args:
            card: what `cards.adapter_card` shall say beyond the config.

        Raises:
            UserError: it cannot be written.
        """
        folder = Path(directory)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors().items()}
        text = adapter_card(self.config.model_dump(), parameters=self.num_parameters, **card)
        ours = [Path(name) for name in (CONFIG, WEIGHTS, CARD)]
        with replaced_folder(folder, CONFIG, ours.__contains__) as unfinished:
            try:
                save_file(tensors, unfinished / WEIGHTS, {"format": "pt"})
            except SafetensorError as error:
                raise UserError(f"The adapter cannot be written to {folder}: {one_line(error)}.") from error
            (unfinished / CARD).write_text(text, encoding="utf8")
            (unfinished / CONFIG).write_text(self.config.model_dump_json(indent=2) + "\n", encoding="utf8")


def count_parameters(folder: Path) -> dict[str, int]:
    """Parameters in an adapter's folder by part, without the statistics of EDN's batch norm.

    Raises:
        UserError: its weights cannot be read.
    """
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    sizes = {"head of M": 0, "EDN": 0, "EAM": 0}
    for name, tensor in read_header(folder / WEIGHTS).items():
        if not name.endswith(statistics):
            part = {"emotion_mapper": "head of M", "edn": "EDN"}.get(name.partition(".")[0], "EAM")
            sizes[part] += math.prod(tensor.shape)
    return sizes


def _copies(networks: Networks, head: int, count: int) -> Parts:
    """The networks' own parts, copied; `count` times one of their heads of M."""
    parts = adaptation_parts(networks)
    heads = cast(nn.ModuleList, parts["emotion_mapper.heads"])
    parts["emotion_mapper.heads"] = nn.ModuleList([heads[head]] * count)
    return {
        name: nn.ModuleList(copy.deepcopy(module) for module in part)
        if isinstance(part, nn.ModuleList)  # one by one: a copy of the list would hold the same head `count` times
        else copy.deepcopy(part)
        for name, part in parts.items()
    }


def _tensors_needed(networks: Networks, count: int) -> dict[str, StoredTensor]:
    """What an adapter's file holds for `count` emotions."""
    needed: dict[str, StoredTensor] = {}
    for name, part in adaptation_parts(networks).items():
        heads = name == "emotion_mapper.heads"
        weights = tensors_of(cast(nn.ModuleList, part)[0].state_dict() if heads else part.state_dict())
        for own, tensor in weights.items():
            places = [f"{name}.{number}.{own}" for number in range(count)] if heads else [f"{name}.{own}"]
            needed |= dict.fromkeys(places, tensor)
    return needed


def find_adapter(
    path_or_id: str | os.PathLike,
    revision: str | None = None,
    subfolder: str | None = None,
    token: str | bool | None = None,
) -> Path:
    """The local folder of an adapter, downloaded from the Hub unless it is one already.

    Raises:
        RepositoryError: there is no such adapter, or it cannot be had.
    """
    wanted = (CONFIG, WEIGHTS, CARD)
    folder = fetch_folder(path_or_id, wanted, revision=revision, subfolder=subfolder, token=token)
    if not (folder / CONFIG).is_file():
        raise RepositoryError(f"{path_or_id} is not an adapter: it has no {CONFIG}.")
    return folder


def push_adapter(
    adapter: EmotionAdapter,
    repo_id: str,
    *,
    base_model: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    commit_message: str = "Upload emotion adapter",
    license: str | None = None,
    metrics: Mapping[str, float] | None = None,
    samples: Mapping[str, Any] | None = None,
) -> str:
    """Upload an adapter, with its card, to a repository of the Hub; the commit's address.

    A card that the repository has already stays as it is.

    Args:
        repo_id: OWNER/NAME, or NAME alone; made if it does not exist.
        base_model: repository of its base, for people who load the adapter; needed if that was loaded from a folder,
            whose path means nothing to them.
        private: whether only its owners see it, if it is made; None is what the owner's settings say.
        token: of the Hub; None is the one that is logged in.
        revision: branch to upload to, made if it does not exist. Default: main.
        license: as the Hub names it, such as "cc0-1.0"; official weights pass theirs, cc-by-nc-4.0, on.
        metrics: what was measured on held-out clips, by name, for the card.
        samples: pictures for the card, by caption, such as frames of the emotion.

    Raises:
        UserError: a picture cannot be read.
        RepositoryError: the Hub cannot be reached or refuses; or `private` is asked of a public repository.
    """
    if base_model is not None:
        adapter = replace(adapter, config=adapter.config.changed(base_model=base_model))
    pictures = {f"samples/{slug(caption)}.png": read_image(each) for caption, each in (samples or {}).items()}

    def save(folder: Path, repo_id: str) -> None:
        adapter.save(folder, repo_id=repo_id, license=license, metrics=metrics, samples=list(pictures))
        for path, picture in pictures.items():
            (folder / path).parent.mkdir(exist_ok=True)
            Image.fromarray(picture).save(folder / path)

    return push_saved(save, repo_id, private=private, token=token, revision=revision, commit_message=commit_message)
