"""Blinks and gaze that are read in keypoints of a driving video."""

import torch
from tiny_renderers import EYES, face

from eat_hf.animation.driver_eyes import EyeReader
from eat_hf.inputs.head_motion import HeadMotion
from eat_hf.models.eye_decoder import DEGREE


def read(openness, right=0.0, up=0.0, yaw=0.0):
    """The motion of a video of such eyes; numbers or (F,) tensors."""
    frames = max(torch.as_tensor(value).numel() for value in (openness, right, up))
    openness, right, up = (torch.as_tensor(value).float().expand(frames) for value in (openness, right, up))
    keypoints = torch.cat([face(float(each)) for each in openness])
    keypoints[:, 8:, :2] += 0.3 * DEGREE * torch.stack([right, -up], -1)[:, None]
    still = HeadMotion.still(frames)
    still.yaw = torch.full((frames,), yaw)
    return EyeReader(None, list(EYES)).move(still, keypoints)


def test_lids_that_close_and_eyes_that_turn_are_read():
    openness = torch.full((60,), 0.4)
    openness[20:24] = torch.tensor([0.2, 0.05, 0.05, 0.2])
    right, up = torch.zeros(60), torch.zeros(60)
    right[30:45], up[50:] = 10, -5
    made = read(openness, right, up)
    assert (made.blink[21:23] == 1).all() and 0.4 < made.blink[20] < 0.8
    assert not made.blink[:20].any() and not made.blink[24:].any()
    assert torch.allclose(made.gaze[30:45], torch.tensor([10.0, 0.0]), atol=0.01)  # as sudden as it was
    assert torch.allclose(made.gaze[50:], torch.tensor([0.0, -5.0]), atol=0.01)
    assert made.gaze[:28].abs().max() < 0.01


def test_eyes_of_any_shape_that_look_anywhere_are_usual():
    for openness in (0.25, 0.4, 0.55):
        made = read(openness + 0.02 * torch.sin(torch.arange(50.0)), 6.0)
        assert not made.blink.any() and made.gaze.abs().max() < 0.01


def test_single_frames_off_are_no_gaze_and_eyes_out_of_sight_are_not_read():
    right = torch.zeros(40)
    right[[5, 20]] = 15
    assert read(0.4, right).gaze.abs().max() < 0.01
    openness = torch.full((40,), 0.4)
    openness[10:20] = 0.05
    hidden = read(openness, torch.arange(40.0), yaw=50.0)
    assert not hidden.blink.any() and not hidden.gaze.any()


def test_a_video_of_shut_eyes_gives_no_nonsense():
    made = read(torch.full((30,), 0.02), 3.0)
    assert (made.blink == 1).all() and not made.gaze.any()
