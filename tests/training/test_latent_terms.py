"""Losses on latents: what they ask of lips beyond where keypoints are."""

import pytest
import torch

from training.losses.latent import LatentTerms, opening, width

NAMES = ["nose_tip", "inner_lip_upper_middle", "inner_lip_lower_middle", "mouth_corner_left", "mouth_corner_right"]
LOWER, RIGHT = 3 * 2 + 1, 3 * 4  # down, and to the right


def clip(openings, widths):
    """Expressions (1, F, 3K) of a mouth that opens, and widens, so far."""
    expression = torch.zeros(1, len(openings), 3 * len(NAMES))
    expression[0, :, LOWER], expression[0, :, RIGHT] = torch.tensor(openings), torch.tensor(widths)
    return expression


def lips(found, wanted):
    batch = {"expression": wanted, "scale": torch.ones(1)}
    return LatentTerms(NAMES, 0.0, lips_weight=1.0)(found, batch)["lips"].item()


def test_how_far_lips_part_and_how_wide_the_mouth_is():
    expression = clip([0.0, 0.1], [0.05, -0.05])
    torch.testing.assert_close(opening(expression, NAMES), torch.tensor([[0.0, 0.1]]))
    torch.testing.assert_close(width(expression, NAMES), torch.tensor([[0.05, -0.05]]))


@pytest.mark.parametrize("part", [0, 1])
def test_a_mouth_that_moves_too_little_costs_more_than_one_that_is_elsewhere(part):
    still = [0.0, 0.0, 0.0, 0.0]
    moves, less, shifted = [0.0, 0.1, 0.0, 0.1], [0.025, 0.075, 0.025, 0.075], [0.025, 0.125, 0.025, 0.125]

    def mouth(values):
        return clip(*((values, still) if part == 0 else (still, values)))

    assert lips(mouth(moves), mouth(moves)) == 0
    assert lips(mouth(shifted), mouth(moves)) == pytest.approx(0.025**2, rel=1e-3)  # frame by frame as far off
    assert lips(mouth(less), mouth(moves)) > 2 * lips(mouth(shifted), mouth(moves))


def test_terms_without_weight_are_none():
    batch = {"expression": clip([0.1], [0.1]), "scale": torch.ones(1)}
    assert set(LatentTerms(NAMES, 1.0)(clip([0.0], [0.0]), batch)) == {"latent"}
    assert set(LatentTerms(NAMES, 1.0, 1.0)(clip([0.0], [0.0]), batch)) == {"latent", "closure"}
