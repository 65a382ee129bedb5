"""Checkpoints in the layout of the authors' release: tiny ones made here, and the reference's pseudo ones."""

import functools
import os
import struct
from pathlib import Path

import numpy as np
import torch

from eat_hf.conversion.names import SPECTRAL_NORM, official_names
from eat_hf.conversion.official import EAT_NETWORKS, LATENT_NETWORKS
from eat_hf.models.a2et import A2ET
from eat_hf.models.edn import EDN
from eat_hf.models.emotion_mapper import EmotionMapper
from eat_hf.models.keypoint_detector import CanonicalKeypointDetector
from eat_hf.models.motion_estimator import MotionEstimator
from eat_hf.models.repos_net import RePosNet
from eat_hf.models.transformer import sinusoid_positions

TINY_A2ET = dict(
    width=16,
    heads=2,
    feed_forward=32,
    layers=2,
    semantic_widths=(29, 4, 4, 8, 8),
    depth=2,
    map_size=16,
    face_channels=4,
    sound_widths=(2, 4),
    sound_kernel=5,
    acoustic_token_widths=(8, 4, 8, 16),
    pose_size=16,
    pose_widths=(1, 4, 8, 16),
    pitch_widths=(4, 8, 8, 8),
    encode_widths=(8, 8, 16, 16, 16, 16),
    pitch_width=8,
    decode_widths=(16, 16, 16, 16, 16, 16),
)
TINY_EDN = dict(width=16, heads=2, feed_forward=32, layers=2, face_widths=(4, 4, 8, 16))
TINY_MAPPER = dict(latent=4, hidden=8, prompts=3, width=16)
TINY_DETECTOR = dict(depth=2, down_channels=(8,) * 5, up_channels=(8,) * 5)
TINY_ESTIMATOR = dict(stem_channels=8, channels=(8, 8, 8, 8), blocks=(1, 2, 2, 2))
TINY_REPOS_NET = dict(
    encoder_channels=(8, 8, 8),
    volume_channels=8,
    volume_depth=2,
    volume_blocks=1,
    guidance=16,
    compress_channels=2,
    hourglass_channels=(8,) * 5,
    feature_channels=8,
    decoder_channels=16,
    decoder_blocks=1,
    up_channels=(8, 4),
    spade_hidden=8,
)
TINY = {
    "keypoint_detector": functools.partial(CanonicalKeypointDetector, **TINY_DETECTOR),
    "motion_estimator": functools.partial(MotionEstimator, **TINY_ESTIMATOR),
    "emotion_mapper": functools.partial(EmotionMapper, **TINY_MAPPER),
    "a2et": functools.partial(A2ET, **TINY_A2ET),
    "edn": functools.partial(EDN, **TINY_EDN),
    "repos_net": functools.partial(RePosNet, **TINY_REPOS_NET),
}


def use_tiny_networks(monkeypatch) -> None:
    """Let the converter expect the tiny networks instead of the official ones."""
    for table in (EAT_NETWORKS, LATENT_NETWORKS):
        for component, (_, name) in table.items():
            monkeypatch.setitem(table, component, (TINY[component], name))


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """Every weight and statistic off its initial value, so that no mix-up is hidden, but signals keep their size."""
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var") or (tensor.dim() == 1 and name.endswith("weight")):
            tensor.copy_(torch.rand(tensor.shape) + 0.5)
        elif tensor.is_floating_point():
            fan_in = tensor[0].numel() if tensor.dim() > 1 else 16
            tensor.copy_(torch.randn(tensor.shape) / fan_in**0.5)
    return model.eval()


def official_tensors(component: str, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A model's weights as the release would hold them, constants and spectral norm included."""
    state, tensors = model.state_dict(), {}
    for ours, theirs in official_names(component, state).items():
        if component == "repos_net" and SPECTRAL_NORM.match(theirs):
            weight = 3 * state[ours]  # any scale: normalisation takes it out again
            u, sigma, v = torch.linalg.svd(weight.flatten(1), full_matrices=False)
            tensors[theirs + "_orig"], tensors[theirs + "_u"], tensors[theirs + "_v"] = weight, u[:, 0], v[0]
            state[ours].copy_(weight / sigma[0])  # what the released network computes with
        else:
            tensors[theirs] = state[ours].clone()
    if component == "keypoint_detector":
        profile = np.exp(-((np.arange(13) - 6) ** 2) / (2 * 1.5**2))
        kernel = np.outer(profile, profile) / profile.sum() ** 2
        tensors["down.weight"] = torch.from_numpy(kernel).float().expand(3, 1, 13, 13).clone()
    if component == "a2et":
        tensors["embedding.weight"] = torch.randn(5, 7)
        for name in ("detector_conv.0", "bilstm_classifier", "bilstm_detector", "classifier", "detector"):
            tensors[f"f0_model.{name}.weight"] = torch.randn(2, 3)
    if component in ("a2et", "edn"):
        tensors["pos_enc.pos_table"] = sinusoid_positions(20, 16)[None]
    return tensors


def tiny_release() -> tuple[dict, dict, dict[str, torch.nn.Module]]:
    """(EAT checkpoint, latent checkpoint, the models they were made from)."""
    torch.manual_seed(0)
    models = {component: randomised(make()) for component, make in TINY.items()}

    def checkpoint(table: dict) -> dict:
        return {name: official_tensors(component, models[component]) for component, (_, name) in table.items()}

    return checkpoint(EAT_NETWORKS), checkpoint(LATENT_NETWORKS), models


def write_basis(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The release's PCA files -> (directions (45, 45), mean (45,))."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    directions = np.linalg.qr(rng.normal(size=(45, 45)))[0].astype(np.float32)
    mean = rng.normal(size=45).astype(np.float32)
    np.save(folder / "U_mead.npy", directions)
    np.save(folder / "mean_mead.npy", mean)
    return directions, mean


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def encode_graph(constants: dict[str, np.ndarray], as_floats: tuple[str, ...] = ()) -> bytes:
    """A frozen TensorFlow graph with these constants, and other nodes between them as real graphs have.

    `as_floats`: constants stored as a list of numbers, as TensorFlow does with short ones.
    """
    graph = _message(1, _message(1, b"input_node") + _message(2, b"Placeholder") + _message(5, _message(1, b"dtype")))
    for name, array in constants.items():
        shape = b"".join(_message(2, _number(1, size)) for size in array.shape)
        tensor = _number(1, {"float32": 1, "float16": 19, "int32": 3}[array.dtype.name]) + _message(2, shape)
        if name in as_floats:
            tensor += _message(5, struct.pack(f"<{array.size}f", *array.ravel()))
        else:
            tensor += _message(4, array.tobytes())
        dtype = _message(5, _message(1, b"dtype") + _message(2, _number(6, 1)))
        value = _message(5, _message(1, b"value") + _message(2, _message(8, tensor)))
        graph += _message(1, _message(1, name.encode()) + _message(2, b"Const") + dtype + value)
        reader = _message(1, f"{name}/read".encode()) + _message(2, b"Identity") + _message(3, name.encode())
        graph += _message(1, reader)
    return graph + _message(4, _number(1, 24))  # the graph's version


def deepspeech_constants(hidden: int = 6, lstm_input: int = 10, lstm_hidden: int = 4) -> dict[str, np.ndarray]:
    """Small random weights under DeepSpeech 0.1.0's names."""
    rng = np.random.default_rng(5)
    dense = {1: (494, hidden), 2: (hidden, hidden), 3: (hidden, lstm_input)}
    dense |= {5: (2 * lstm_hidden, hidden), 6: (hidden, 29)}
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (rows, columns) in dense.items():
        shapes |= {f"h{i}": (rows, columns), f"b{i}": (columns,)}
    for direction in ("fw", "bw"):
        cell = f"bidirectional_rnn/{direction}/basic_lstm_cell"
        shapes |= {f"{cell}/kernel": (lstm_input + lstm_hidden, 4 * lstm_hidden), f"{cell}/bias": (4 * lstm_hidden,)}
    return {name: (rng.normal(size=shape) / 3).astype(np.float32) for name, shape in shapes.items()}


class RunsCode:
    """A pickle of it makes a folder when it is read as Python would."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)
