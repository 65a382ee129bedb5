"""Measure an assembled pipeline on the corpus' test split, identities and sentences it never saw; writes measured.json.

    python -m training.measure --corpus CORPUS --model checkpoints_card/eat-demo

What is looked at is the generated video, read back by dlib's landmarks and face embedding, which no training used.
"""

import json
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import dlib
import face_recognition_models
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tqdm import tqdm

from eat_hf import EATPipeline
from eat_hf.audio import SAMPLING_RATE
from eat_hf.faces import detect_faces

from .corpus.dataset import Clip, Corpus
from .options import parse_options

UPPER, LOWER = 62, 66  # middle of the inner lips in the iBUG landmarks
BORDER = 8  # pixels


@dataclass
class MeasureOptions:
    """Options."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    model: str = field(default="checkpoints_card/eat-demo", metadata={"help": "Pipeline folder."})
    clips: int = field(default=40, metadata={"help": "Speech clips to generate."})
    frames: int = field(default=75, metadata={"help": "At most so many frames of each."})


def portrait_of(corpus: Corpus, identity: int) -> np.ndarray:
    """(256, 256, 3) an identity's near neutral, near frontal frame."""
    return corpus.clips(kind="range_of_motion", identity=identity)[0].frames()[0]


def true_opening(clip: Clip) -> np.ndarray:
    """(T,) distance of the inner lips in the labels."""
    landmarks = clip.labels()["landmarks"]
    return landmarks[:, LOWER, 1] - landmarks[:, UPPER, 1]


def read_opening(frames: np.ndarray) -> np.ndarray:
    """(T,) the same, seen by dlib in the pictures; the detected box of the first frame serves all."""
    predictor = dlib.shape_predictor(face_recognition_models.pose_predictor_model_location())
    left, top, right, bottom = (int(v) for v in detect_faces(frames[0])[0].box)
    box = dlib.rectangle(left, top, right, bottom)
    shapes = [predictor(np.ascontiguousarray(frame), box) for frame in frames]
    return np.array([shape.part(LOWER).y - shape.part(UPPER).y for shape in shapes], np.float64)


def embedding(picture: np.ndarray) -> np.ndarray:
    """(128,) dlib's face embedding; below a distance of 0.6 two pictures show the same person."""
    network = dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location())
    predictor = dlib.shape_predictor(face_recognition_models.pose_predictor_model_location())
    left, top, right, bottom = (int(v) for v in detect_faces(picture)[0].box)
    shape = predictor(np.ascontiguousarray(picture), dlib.rectangle(left, top, right, bottom))
    return np.array(network.compute_face_descriptor(np.ascontiguousarray(picture), shape))


def border_change(frames: np.ndarray) -> float:
    """Mean absolute change of the picture's border from frame to frame, of 255."""
    mask = np.ones(frames.shape[1:3], bool)
    mask[BORDER:-BORDER, BORDER:-BORDER] = False
    return float(np.abs(np.diff(frames[:, mask].astype(np.float32), axis=0)).mean())


@torch.no_grad()
def reenact(pipe: EATPipeline, corpus: Corpus, clips: list[Clip], every: int = 8) -> dict[str, float]:
    """The renderer with estimated keypoints: a person's portrait driven by another clip's frames of the same scene."""
    scores: dict[str, list[float]] = {"psnr": [], "ssim": [], "psnr_of_copying": []}
    for clip in tqdm(clips, desc="reenactment"):
        frames = clip.frames()
        pictures = torch.from_numpy(frames[[0, *range(4, len(frames), every)]]).permute(0, 3, 1, 2).float() / 255
        keypoints = pipe.keypoint_detector(pictures).keypoints
        rendered = pipe.repos_net(pictures[:1], keypoints[:1], keypoints[None, 1:]).frames[0]
        rendered = (rendered.permute(0, 2, 3, 1) * 255).round().byte().numpy()
        truth = frames[range(4, len(frames), every)]
        for mine, real in zip(rendered, truth, strict=True):
            scores["psnr"].append(peak_signal_noise_ratio(real, mine))
            scores["ssim"].append(structural_similarity(real, mine, channel_axis=2))
            scores["psnr_of_copying"].append(peak_signal_noise_ratio(real, frames[0]))
    return {name: float(np.mean(values)) for name, values in scores.items()}


def main() -> None:
    options, _ = parse_options(MeasureOptions, "measure")
    corpus = Corpus(options.corpus)
    pipe = EATPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    test = [clip for clip in corpus.clips(split="test", kind="speech") if true_opening(clip).std() > 1e-3]
    correlations, distances, borders = [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for clip in tqdm(test[: options.clips], desc="speech"):
            portrait = portrait_of(corpus, clip.identity)
            waveform = clip.waveform()[: options.frames * SAMPLING_RATE // 25]
            frames = pipe(portrait, (waveform, SAMPLING_RATE), emotion=clip.emotion, generator=0).frames
            count = min(len(frames), clip.length)
            correlations.append(np.corrcoef(read_opening(frames[:count]), true_opening(clip)[:count])[0, 1])
            distances.append(np.linalg.norm(embedding(frames[0]) - embedding(frames[len(frames) // 2])))
            borders.append(border_change(frames))
    rendered = [clip for clip in test if clip.rendered][:16]
    results = {
        "clips": len(correlations),
        "opening_correlation_mean": float(np.nanmean(correlations)),
        "opening_correlation_median": float(np.nanmedian(correlations)),
        "opening_correlation_above_0.6": float(np.mean(np.array(correlations) > 0.6)),
        "embedding_distance_to_first_frame": float(np.mean(distances)),
        "border_change_of_255": float(np.mean(borders)),
        **{f"reenactment_{name}": value for name, value in reenact(pipe, corpus, rendered).items()},
    }
    (Path(options.model) / "measured.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
