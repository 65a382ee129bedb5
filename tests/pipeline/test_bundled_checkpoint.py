"""What the bundled checkpoint does out of the box, on its own examples."""

from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "checkpoints_card" / "eat-demo"
PORTRAIT, SPEECH = (str(ROOT / "examples" / name) for name in ("portrait.png", "speech.wav"))
SECOND = 16_000


@pytest.fixture(scope="module")
def pipe():
    from eat_hf import EATPipeline

    pipe = EATPipeline.from_pretrained(MODEL)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def speech():
    import soundfile

    return soundfile.read(SPEECH, dtype="float32")[0]


def read_keypoints(pipe, frames):
    """(T, K, 3) keypoints that the checkpoint's own detector sees in generated frames."""
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return pipe.keypoint_detector(pictures).keypoints


def names():
    from training.corpus.heads import KEYPOINT_NAMES

    return KEYPOINT_NAMES


def opening(keypoints):
    """(T,) distance of the inner lips, in pixels."""
    lower, upper = (names().index(f"inner_lip_{side}_middle") for side in ("lower", "upper"))
    return 128 * (keypoints[:, lower, 1] - keypoints[:, upper, 1]).numpy()


def smile(keypoints):
    """(T,) how far the corners of the mouth are above the middle of the lips, in pixels."""
    corners = [names().index(f"mouth_corner_{side}") for side in ("left", "right")]
    lips = [names().index(f"outer_lip_{side}_middle") for side in ("upper", "lower")]
    return 128 * (keypoints[:, lips, 1].mean(1) - keypoints[:, corners, 1].mean(1)).numpy()


def test_it_fits_the_repository():
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) < 30e6
    assert not list(MODEL.rglob("*.bin")) and not list(MODEL.rglob("*.pt"))


def test_lips_move_with_speech_and_rest_in_silence(pipe, speech):
    said, silence = speech[: 5 * SECOND // 4], np.zeros(SECOND // 2, np.float32)
    talking, silent = (
        pipe(PORTRAIT, (sound, SECOND), generator=0, head_motion="still", size=256).frames for sound in (said, silence)
    )
    assert len(talking) == 32 and len(silent) == 13
    gap, rest = (opening(read_keypoints(pipe, frames)) for frames in (talking, silent))
    assert gap.max() > rest.mean() + 4
    assert rest.max() < 0.5 * gap.max()
    assert gap.std() > 3 * rest.std()


def test_emotions_differ_in_the_right_direction(pipe, speech):
    sound = speech[SECOND : 7 * SECOND // 5], SECOND
    clips = {
        emotion: read_keypoints(pipe, pipe(PORTRAIT, sound, emotion, generator=0, head_motion="still", size=256).frames)
        for emotion in ("happy", "sad", "angry", "surprised")
    }
    brows = [names().index(f"brow_{part}_{side}") for part in ("inner", "middle") for side in ("left", "right")]
    height = {emotion: -128 * keypoints[:, brows, 1].mean().item() for emotion, keypoints in clips.items()}
    assert smile(clips["happy"]).mean() > smile(clips["sad"]).mean() + 2
    assert height["surprised"] > height["angry"] + 3


def test_the_background_stays(pipe, speech):
    frames = pipe(PORTRAIT, (speech[: SECOND // 2], SECOND), "happy", generator=0).frames.astype(np.float32)
    corners = np.concatenate([frames[:, :24, :24], frames[:, :24, -24:]], 2)
    assert np.abs(np.diff(corners, axis=0)).mean() < 0.5


def test_half_precision_shows_no_difference(pipe, speech):
    from eat_hf import EATPipeline

    half = EATPipeline.from_pretrained(MODEL, torch_dtype=torch.bfloat16)
    half.set_progress_bar_config(disable=True)
    assert half.repos_net.dtype == torch.bfloat16 and half.a2et.dtype == torch.float32
    sound = speech[SECOND : 6 * SECOND // 5], SECOND
    given = {"generator": 0, "size": 256, "batch_size": 1}  # of the first frame: processors are slow at this
    whole, drawn = (next(p.stream(PORTRAIT, sound, "happy", **given)).astype(float) for p in (pipe, half))
    assert 10 * np.log10(255**2 / np.square(whole - drawn).mean()) > 40
