"""CLIP: sentences and pictures in one space."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import RepositoryError, UserError
from ..hub.client import explained, fetch_folder
from ..media.bounded import check_tensors, read_headers, read_json, read_text
from ..media.files import one_line, replaced_folder
from ..models.checked import check_numbers, expected_tensors

if TYPE_CHECKING:
    from transformers import CLIPModel, PreTrainedTokenizerBase


DEFAULT_CLIP = "openai/clip-vit-large-patch14"
TOKENIZER = "tokenizer.json tokenizer_config.json vocab.json merges.txt special_tokens_map.json".split()
FILES = ["config.json", "preprocessor_config.json", *TOKENIZER, "model*.safetensors", "model*.index.json"]


@dataclass(frozen=True)
class CLIP:
    """A CLIP with what prepares its inputs.

    Attributes:
        name: where it came from.
        model: frozen.
        tokenizer: of sentences.
        preprocessing: of pictures, as preprocessor_config.json has it.
    """

    name: str
    model: "CLIPModel"
    tokenizer: "PreTrainedTokenizerBase"
    preprocessing: dict[str, Any]

    @classmethod
    def load(cls, path_or_id: str, device: torch.device | str = "cpu", **options: Any) -> "CLIP":
        """Read a CLIPModel of transformers: a folder, or a repository of the Hub; safetensors only.

        Args:
            options: of the Hub, such as `local_files_only`.

        Raises:
            RepositoryError: there is none, it cannot be had, or its settings and weights are not a CLIP's.
        """
        # they take seconds, which only those shall wait who use words
        from transformers import AutoTokenizer, CLIPModel
        from transformers.image_processing_base import ImageProcessingMixin

        with explained(path_or_id):
            folder = fetch_folder(path_or_id, FILES, **options)
            _check_folder(folder)
            model = CLIPModel.from_pretrained(folder, use_safetensors=True)
            preprocessing, _ = ImageProcessingMixin.get_image_processor_dict(folder)
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:  # of many kinds: whatever a stranger's files make of it
            raise RepositoryError(f"The tokenizer of {path_or_id} cannot be used: {one_line(error)[:200]}.") from error
        if len(tokenizer) > model.config.text_config.vocab_size:
            raise RepositoryError(f"The tokenizer of {path_or_id} has more words than its CLIP knows.")
        check_numbers(model, path_or_id)
        return cls(path_or_id, model.float().to(device).eval().requires_grad_(False), tokenizer, preprocessing)

    def save(self, folder: Path) -> None:
        """Write a folder that `load`, and transformers, read: as a whole or not at all."""
        with replaced_folder(folder, "config.json") as unfinished:
            self.model.save_pretrained(unfinished)
            self.tokenizer.save_pretrained(unfinished)
            (unfinished / "preprocessor_config.json").write_text(json.dumps(self.preprocessing, indent=2) + "\n")

    def embed_text(self, texts: str | Sequence[str]) -> Tensor:
        """A wish as a unit vector (1, D): the mean of its phrasings.

        Raises:
            UserError: there is no text, or one is longer than CLIP reads.
        """
        phrasings = [texts] if isinstance(texts, str) else list(texts)
        if not phrasings or not all(isinstance(text, str) and text.strip() for text in phrasings):
            raise UserError("The text is empty; describe the expression, such as 'She is talking while crying hard.'")
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(phrasings, padding=True, return_tensors="pt").to(self.model.device)
        if tokens.input_ids.shape[1] > longest:
            raise UserError(
                f"The text has {tokens.input_ids.shape[1]} tokens, and CLIP reads {longest} at most; make it shorter."
            )
        with torch.no_grad():
            found = self.embed_tokens(tokens)
        return F.normalize(found.mean(0, keepdim=True), dim=-1)

    def embed_tokens(self, tokens: Mapping[str, Tensor]) -> Tensor:
        """input_ids and attention_mask (N, L) -> unit vectors (N, D)."""
        return F.normalize(_features(self.model.get_text_features(**tokens)), dim=-1)

    def embed_pictures(self, pictures: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] -> unit vectors (N, D), differentiably."""
        values = to_clip_pixels(pictures.float(), self.preprocessing)
        return F.normalize(_features(self.model.get_image_features(values)), dim=-1)


def _check_folder(folder: Path) -> None:
    """That a folder's configuration is that of its weights, before a CLIP of that size is made.

    Raises:
        RepositoryError: it is not, or a file cannot be read.
    """
    from transformers import CLIPConfig, CLIPModel

    settings = read_json(folder / "config.json")
    for name in TOKENIZER:
        if os.path.lexists(folder / name):
            read_text(folder / name, 8_000_000)
    if settings.get("model_type") != "clip":
        raise RepositoryError(f"{folder / 'config.json'} is not the configuration of a CLIP.")
    found = read_headers(folder, "model")
    expected = expected_tensors(lambda: CLIPModel(CLIPConfig(**settings)), len(found), folder / "config.json")
    check_tensors(expected, found, folder, others=True)  # old files hold positions as well
    side = CLIPConfig(**settings).vision_config.image_size
    preprocessing = read_json(folder / "preprocessor_config.json")
    try:
        pictures = _Preprocessing.read(preprocessing)
        fits = pictures.crop == (side, side) and side <= pictures.edge <= 4 * side and min(pictures.std) > 0
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise RepositoryError(f"{folder / 'preprocessor_config.json'} does not make pictures for this CLIP.")


class _Preprocessing(NamedTuple):
    """What preprocessor_config.json says: the shorter edge of pictures, height and width of what is cut out of them
    (pixels); means and deviations of colours.
    """

    edge: int
    crop: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> "_Preprocessing":
        edge, crop = settings["size"], settings["crop_size"]  # old files have numbers
        edge = edge["shortest_edge"] if isinstance(edge, dict) else edge
        height, width = (crop["height"], crop["width"]) if isinstance(crop, dict) else (crop, crop)
        (r, g, b), (dr, dg, db) = (map(float, settings[name]) for name in ("image_mean", "image_std"))
        return cls(int(edge), (int(height), int(width)), (r, g, b), (dr, dg, db))


def to_clip_pixels(pictures: Tensor, preprocessing: dict[str, Any]) -> Tensor:
    """What a CLIP's image processor does, differentiably: (N, 3, H, W) in [0, 1] -> (N, 3, side, side).

    Args:
        preprocessing: size, crop_size, image_mean and image_std of preprocessor_config.json.
    """
    edge, crop, *colours = _Preprocessing.read(preprocessing)
    shortest = min(pictures.shape[-2:])
    size = [round(length * edge / shortest) for length in pictures.shape[-2:]]
    x = pictures
    if size != list(pictures.shape[-2:]):
        # bicubic interpolation overshoots, which 8-bit pictures would cut off
        x = F.interpolate(pictures, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((length - side) // 2 for length, side in zip(size, crop, strict=True))
    x = x[..., top : top + crop[0], left : left + crop[1]]
    mean, std = (x.new_tensor(values)[:, None, None] for values in colours)
    return (x - mean) / std


def _features(out: Any) -> Tensor:
    """transformers 5 returns an object, 4 the tensor."""
    return getattr(out, "pooler_output", out)
