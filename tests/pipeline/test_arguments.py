"""Ranges of what a clip is asked for with, which need no model."""

import numpy as np
import pytest
import torch

from eat_hf.errors import UserError
from eat_hf.inputs.head_motion import HeadMotion
from eat_hf.pipeline.arguments import ClipOptions

NAN, HUGE = float("nan"), 10**5000  # more digits than Python writes


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"generator": 2**64}, "The seed must be a whole number from 0 to 18446744073709551615"),
        ({"generator": -1}, "The seed must be"),
        ({"generator": HUGE}, "not a huge int"),
        ({"generator": True}, "generator must be"),
        ({"batch_size": 0}, "batch_size must be a whole number from 1 to 1024"),
        ({"batch_size": 10**9}, "batch_size must be"),
        ({"batch_size": True}, "batch_size must be"),
        ({"face": -1}, "face must be a whole number from 0"),
        ({"face": 0.5}, "face must be"),
        ({"audio_track": -1}, "audio_track must be a whole number from 0"),
        ({"audio_track": "1"}, "audio_track must be"),
        ({"head_amount": -0.1}, "head_amount must be a number from 0 to 2, not -0.1"),
        ({"blinks": 2.1}, "blinks must be a number from 0 to 2"),
        ({"gaze": NAN}, "gaze must be a number from 0 to 2"),
        ({"gaze": "1"}, "gaze must be a number"),
        ({"blinks": HUGE}, "blinks must be a number"),
        ({"intensity": 1e9}, "between 0 and 1.5"),
        ({"intensity": NAN}, "between 0 and 1.5"),
        ({"intensity": HUGE}, "between 0 and 1.5"),
        ({"intensity": [(NAN, 1)]}, "number of seconds from 0 up"),
        ({"emotion": {"happy": 1e308}}, "from 0 to 1000"),
        ({"emotion": {"happy": float("inf")}}, "from 0 to 1000"),
        ({"emotion": {"happy": 1 + 0j}}, "from 0 to 1000"),
        ({"emotion": [(1e308, "happy")]}, "number of seconds from 0 up to 86400"),
        ({"emotion": [(n, "happy") for n in range(10**6)]}, "more than 1000 entries"),
        ({"emotion": [(0, "happy"), (0, "sad")]}, "same time"),
    ],
)
def test_values_out_of_range_are_one_sentence(options, words):
    with pytest.raises(UserError, match=words) as caught:
        ClipOptions(**options)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_the_ends_of_the_ranges_are_in_them():
    assert ClipOptions(generator=2**64 - 1, batch_size=1024, face=0, intensity=1.5).seeded().initial_seed() == 2**64 - 1
    assert ClipOptions(generator=np.int64(3), batch_size=np.int32(1), intensity=0).seeded().initial_seed() == 3
    assert ClipOptions(head_amount=0, blinks=np.float32(2), gaze=1).amounts == (0, 2, 1)
    ClipOptions(emotion={"happy": 1000, "sad": 0}, intensity=[(0, 0), (86400, 1.5)])


@pytest.mark.parametrize("fps", [0, -25, NAN, float("inf"), 1e-300])
def test_a_head_moves_at_some_rate(fps):
    zeros = torch.zeros(4)
    with pytest.raises(UserError, match="fps must be a number from 1 to 1000"):
        HeadMotion(zeros, zeros, zeros, torch.zeros(4, 3), fps=fps)


def test_a_head_stays_on_its_neck():
    zeros = torch.zeros(4)
    with pytest.raises(UserError, match="pitch must stay within 360"):
        HeadMotion(zeros, zeros - 1e6, zeros, torch.zeros(4, 3))
