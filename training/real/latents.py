"""Labels of real clips that take networks: head pose, keypoints and expression, as a pipeline measures them."""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers.utils import logging
from huggingface_hub import hf_hub_download

from eat_hf import CanonicalKeypointDetector, MotionEstimator
from eat_hf import keypoints as kp
from eat_hf.errors import UserError
from eat_hf.hub.client import explained

BATCH = 16  # frames the networks see at a time


@dataclass(frozen=True)
class Networks:
    """What labels head pose, keypoints and expression, and the conventions of their pipeline."""

    detector: CanonicalKeypointDetector
    estimator: MotionEstimator
    keypoint_space: str
    expression_frame: kp.ExpressionFrame
    crop_scale: float


@functools.cache
def load_networks(model: str, device: str) -> Networks:
    """The keypoint detector and the motion estimator of a pipeline, once a process.

    Raises:
        UserError: they cannot be loaded, or do not fit together.
    """
    logging.set_verbosity_error()
    try:
        with explained(model):
            index = (
                Path(model, "model_index.json") if Path(model).is_dir() else hf_hub_download(model, "model_index.json")
            )
            config = json.loads(Path(index).read_text(encoding="utf8"))
            detector, estimator = (
                kind.from_pretrained(model, subfolder=name, use_safetensors=True).eval().to(device)
                for kind, name in (
                    (CanonicalKeypointDetector, "keypoint_detector"),
                    (MotionEstimator, "motion_estimator"),
                )
            )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"The model {model} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    if detector.config.keypoints != estimator.config.keypoints:
        raise UserError(
            f"The model {model} has a detector of {detector.config.keypoints} keypoints and an estimator of "
            f"{estimator.config.keypoints}; they must be the same."
        )
    names = ("keypoint_space", "expression_frame", "driving_crop_scale")
    return Networks(detector, estimator, *(config[name] for name in names))


def latent_labels(networks: Networks, frames: np.ndarray) -> dict[str, np.ndarray]:
    """What networks see in frames (T, 256, 256, 3) uint8, so that K = R (K_c + E) + t.

    yaw, pitch, roll (T,) degrees; translation (T, 3); canonical K_c (K, 3); expression E, keypoints K (T, K, 3).
    """
    parts, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order round differently
    with torch.inference_mode():
        for batch in torch.from_numpy(frames).split(BATCH):
            pixels = batch.to(networks.detector.device).permute(0, 3, 1, 2).float() / 255
            motion = networks.estimator(pixels)
            angles = kp.degrees_from_logits(motion.yaw, motion.pitch, motion.roll)
            detected = networks.detector(pixels).keypoints
            parts.append([part.cpu() for part in (*angles, motion.translation, motion.expression, detected)])
    torch.set_num_threads(threads)
    yaw, pitch, roll, translation, expression, detected = (torch.cat(part) for part in zip(*parts, strict=True))
    rotation = kp.rotation_from_degrees(yaw, pitch, roll)
    if networks.keypoint_space == "posed":
        pose = rotation, translation, expression
        canonical = kp.canonical_from_posed(detected, *pose, networks.expression_frame).mean(0)
        keypoints = detected
        deformation = (detected - translation[:, None]) @ rotation - canonical  # R^-1 = R^T, on row vectors
    else:
        canonical = detected.mean(0)
        deformation = expression.unflatten(1, (-1, 3))
        if networks.expression_frame == "camera":
            deformation = deformation @ rotation
        keypoints = kp.compose_keypoints(canonical, rotation, translation, deformation.flatten(1), "head")
    labels = {
        "yaw": yaw,
        "pitch": pitch,
        "roll": roll,
        "translation": translation,
        "canonical": canonical,
        "expression": deformation,
        "keypoints": keypoints,
    }
    return {name: label.numpy() for name, label in labels.items()}


def fingerprint(networks: Networks) -> str:
    """The same for the same weights, wherever they lie."""
    digest = hashlib.sha256()
    for network in (networks.detector, networks.estimator):
        for tensor in network.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]
