"""Eq. 1 and its angles, against cases worked out by hand."""

import itertools
import math

import pytest
import torch

from eat_hf import keypoints as kp


def test_rotations_turn_the_axes_as_the_paper_has_them():
    right, down, towards = torch.eye(3)
    quarter, none = torch.tensor(math.pi / 2), torch.tensor(0.0)
    r_yaw, r_pitch, r_roll, _ = kp.rotation_matrices(quarter, quarter, quarter)
    torch.testing.assert_close(r_yaw @ towards, right, atol=1e-6, rtol=0)
    torch.testing.assert_close(r_pitch @ down, towards, atol=1e-6, rtol=0)
    torch.testing.assert_close(r_roll @ right, down, atol=1e-6, rtol=0)
    *_, product = kp.rotation_matrices(quarter, quarter, none)
    torch.testing.assert_close(product, r_pitch @ r_yaw, atol=1e-6, rtol=0)


def test_bins_read_as_three_degrees_around_bin_33():
    logits = torch.full((3, 66), -30.0)
    logits[0, 33], logits[1, 0], logits[2, 65] = 30.0, 30.0, 30.0
    (degrees,) = kp.degrees_from_logits(logits)
    torch.testing.assert_close(degrees, torch.tensor([0.0, -99.0, 96.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("degrees", [-98.9, -12.34, 0.0, 0.5, 45.0, 95.9])
def test_logits_from_degrees_round_trip(degrees):
    (back,) = kp.degrees_from_logits(kp.logits_from_degrees(torch.tensor(degrees)))
    assert back.item() == pytest.approx(degrees, abs=1e-3)


def test_degrees_use_the_released_value_of_pi():
    assert kp.degrees_to_radians(torch.tensor(180.0)).item() == pytest.approx(3.14)


@pytest.mark.parametrize("frame", ["camera", "head"])
def test_canonical_from_posed_undoes_compose(frame):
    generator = torch.Generator().manual_seed(0)
    canonical, translation, expression = (torch.randn(2, n, 3, generator=generator) for n in (7, 1, 7))
    angles = [20 * torch.randn(2, generator=generator) for _ in range(3)]
    motion = kp.rotation_from_degrees(*angles), translation[:, 0], expression.flatten(1)
    posed = kp.compose_keypoints(canonical, *motion, frame)
    torch.testing.assert_close(kp.canonical_from_posed(posed, *motion, frame), canonical, atol=1e-5, rtol=1e-5)


def test_expression_stays_in_its_frame():
    canonical = torch.zeros(1, 1, 3)
    rotation = kp.rotation_from_degrees(torch.tensor([180.0]), torch.zeros(1), torch.zeros(1))
    motion = rotation, torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 3.0]])
    torch.testing.assert_close(kp.compose_keypoints(canonical, *motion, "camera")[0, 0], torch.tensor([1.0, 2.0, 3.0]))
    turned = kp.compose_keypoints(canonical, *motion, "head")[0, 0]
    torch.testing.assert_close(turned, torch.tensor([-1.0, 2.0, -3.0]), atol=0.02, rtol=0)


def test_hull_volume_of_a_cube():
    cube = torch.tensor(list(itertools.product((0.0, 2.0), repeat=3)))
    inside = torch.ones(1, 3)
    volumes = kp.hull_volume(torch.stack([torch.cat([cube, inside]), torch.cat([cube / 2, inside / 2])]))
    torch.testing.assert_close(volumes, torch.tensor([8.0, 1.0]))


def test_centring_moves_each_clip_by_its_own_mean():
    driving, source = torch.randn(2, 5, 7, 3), torch.randn(2, 7, 3)
    centred = kp.centre_on_source(driving, source)
    torch.testing.assert_close(centred.mean((1, 2)), source.mean(1), atol=1e-6, rtol=1e-5)
    shift = driving - centred
    torch.testing.assert_close(shift, shift[:, :1, :1].expand_as(shift), atol=1e-6, rtol=1e-5)
