"""Shared fixtures: a complete pipeline of tiny, random components, and real files to feed it."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
import skimage.data
import torch
from PIL import Image

KEYPOINTS, COEFFICIENTS, WIDTH, LAYERS = 6, 5, 16, 2
ROOT = Path(__file__).parent
# Files that take longest, which a process each begins with: with `--dist loadfile` one that begins last ends alone.
LONGEST = (
    "app/test_app.py",
    "app/test_strangers.py",
    "app/test_live_tab.py",
    "service/test_service.py",
    "adapters/test_from_text.py",
    "cli/test_cli.py",
    "cli/test_jobs.py",
    "training/test_training_stages.py",
    "pipeline/test_pipeline.py",
    "pipeline/test_live.py",
    "evaluation/test_evaluation.py",
    "cli/test_process.py",
    "models/test_parity.py",
    "benchmark/test_benchmark.py",
    "pipeline/test_bundled_checkpoint.py",
    "hub/test_hub.py",
    "training/test_training_loop.py",
)
_FOUND: dict[bytes, list] = {}


def pytest_collection_modifyitems(items) -> None:
    order = {ROOT / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


@pytest.fixture(scope="module")
def faces_found_once():
    """For tests that animate the same picture again and again: its faces are searched for once."""
    from eat_hf.inputs import faces

    search = faces.detect_faces

    def detect_faces(image: np.ndarray) -> list:
        key = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest()
        if key not in _FOUND:
            _FOUND[key] = search(image)
        return [replace(face) for face in _FOUND[key]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faces, "detect_faces", detect_faces)
        yield


def build_tiny_pipeline(**settings):
    """Every component, a few channels wide. Weights are enlarged where they would drown in the output.

    Settings are those of the components whose configuration has them.
    """
    from eat_hf import (
        A2ET,
        EDN,
        CanonicalKeypointDetector,
        DeepSpeechEncoder,
        EATPipeline,
        EmotionMapper,
        ExpressionBasis,
        MotionEstimator,
        RePosNet,
    )

    torch.manual_seed(19)  # of 24 seeds the one whose emotions look most different and hold in bfloat16

    def own(*names):
        return {name: settings.pop(name) for name in names if name in settings}

    transformer = {"width": WIDTH, "heads": 2, "feed_forward": 32, "layers": LAYERS}
    pipeline = EATPipeline(
        keypoint_detector=CanonicalKeypointDetector(
            KEYPOINTS,
            4,
            (8, 8, 16),
            (16, 8, 8),
            **{"landmark_reader": "network"} | own("keypoint_space", "template_landmarks", "landmark_reader"),
        ),
        motion_estimator=MotionEstimator(KEYPOINTS, 66, 8, (8, 16), (1, 2), **own("driving_crop_scale")),
        emotion_mapper=EmotionMapper(hidden=16, prompts=1 + LAYERS, width=WIDTH),
        a2et=A2ET(
            **transformer,
            **{"semantic_widths": (29, 8, 8, 8, 8)} | own("semantic_widths"),
            keypoints=KEYPOINTS,
            depth=4,
            map_size=16,
            face_channels=8,
            sound_widths=(4, 8),
            sound_kernel=5,
            acoustic_token_widths=(16, 16, WIDTH),
            pose_size=16,
            pose_widths=(1, 8, 8),
            pitch_widths=(8, 8, 8, 16),
            encode_widths=(8, 8, 16, 16, 16, 16),
            pitch_width=16,
            decode_widths=(32, 16, 16, 16, 16, 16),
            coefficients=COEFFICIENTS,
        ),
        edn=EDN(**transformer, face_widths=(8, 8, WIDTH), keypoints=KEYPOINTS),
        repos_net=RePosNet(
            keypoints=KEYPOINTS,
            encoder_channels=(8, 8, 16),
            volume_channels=4,
            volume_depth=2,
            volume_blocks=1,
            guidance=WIDTH,
            compress_channels=1,
            hourglass_channels=(4,),
            feature_channels=8,
            decoder_channels=8,
            decoder_blocks=1,
            up_channels=(8, 4),
            spade_hidden=4,
        ),
        speech_encoder=DeepSpeechEncoder(hidden=16),
        expression_basis=ExpressionBasis(
            KEYPOINTS,
            COEFFICIENTS,
            **own("expression_frame", "hull_volume_exponent", "driving_centring"),
            **own("blink_deformation", "gaze_deformation"),
        ),
    )
    assert not settings, settings
    with torch.no_grad():
        pipeline.a2et.head.weight *= 10
        pipeline.expression_basis.directions.normal_(0, 0.1)
        pipeline.keypoint_detector.head.weight *= 100  # keypoints far apart, not all in the middle
        pipeline.repos_net.decoder.to_rgb.weight *= 40
        for head in pipeline.emotion_mapper.heads:
            head[-1].bias.normal_()
    for component in pipeline.components.values():
        component.eval()
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def tiny_pipeline():
    return build_tiny_pipeline()


def build_live_pipeline():
    """A tiny pipeline that hears as it goes."""
    from eat_hf import EATPipeline, StreamingSpeechEncoder

    pipeline = build_tiny_pipeline(driving_centring="none", blink_deformation=[0.02] * 3 * KEYPOINTS)
    torch.manual_seed(7)
    encoder = StreamingSpeechEncoder(bands=16, width=12, blocks=2).eval()
    with torch.no_grad():
        encoder.head.weight *= 20
    pipeline = EATPipeline(**{**pipeline.components, "speech_encoder": encoder})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def live_pipeline():
    return build_live_pipeline()


@pytest.fixture(scope="session")
def live_model(live_pipeline, tmp_path_factory) -> Path:
    """It as a folder that `from_pretrained` reads."""
    folder = tmp_path_factory.mktemp("live_model")
    live_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tiny_pipeline, tmp_path_factory) -> Path:
    """The tiny pipeline as a folder that `from_pretrained` reads."""
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """A public domain photograph with one face: Eileen Collins, NASA."""
    return skimage.data.astronaut()


@pytest.fixture(scope="session")
def portrait_file(portrait, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("portrait") / "astronaut.png"
    Image.fromarray(portrait).save(path)
    return path


def voice(seconds: float, rate: int = 16000) -> np.ndarray:
    """Something between a hum and a voice: harmonics of a moving pitch, in syllables."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 20 * np.sin(2 * np.pi * 0.7 * t)) / rate
    tone = sum(np.sin(n * phase) / n for n in range(1, 12))
    return (0.15 * tone * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * t))).astype(np.float32)


@pytest.fixture(scope="session")
def recording_file(tmp_path_factory) -> Path:
    """0.32 s at 24 kHz: 8 frames."""
    path = tmp_path_factory.mktemp("recording") / "voice.wav"
    scipy.io.wavfile.write(path, 24000, voice(0.32, 24000))
    return path


@pytest.fixture(scope="session")
def real_inputs() -> Path:
    """A folder of real portraits and recordings that lies beside the repository, where there is one."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "real_inputs"
    folder = Path(os.environ.get("EAT_REAL_INPUTS", beside))
    if not folder.is_dir():
        pytest.skip(f"no real pictures and recordings at {folder} (set EAT_REAL_INPUTS)")
    return folder
