"""Lips move with their own keypoints, up to the other one, however little of that a smooth field of motion shows."""

import pytest
import torch
from tiny_renderers import DETAIL, KEYPOINTS

from eat_hf import DetailRenderer
from eat_hf.models.lips import lip_motion
from eat_hf.models.mouth_decoder import MouthDecoder
from eat_hf.models.patches import PatchPlane, polygon_coverage

SIZE = 64, 80
PLANE = PatchPlane(torch.tensor([[0.1, 0.2]]), torch.tensor([[[0.4, 0.0], [0.0, 0.3]]]))


def mouth(gap, middle=0.2):
    """Corners (1, 4, 2) of a mouth 0.4 wide: left corner, upper lip, right corner, lower lip."""
    return torch.tensor([[[-0.1, middle], [0.1, middle - gap / 2], [0.3, middle], [0.1, middle + gap / 2]]])


def around(inner):
    """Lips of 0.06 around an opening."""
    return inner + torch.tensor([[0.0, 0.0], [0.0, -0.06], [0.0, 0.0], [0.0, 0.06]])


def fetched(own, driving):
    """The column through the middle of the mouth: how far down its pixels are, and where they come from."""
    missing = own - driving  # as if the field moved nothing
    motion = lip_motion(PLANE, driving, around(driving), missing, missing, *SIZE)
    column = slice(SIZE[1] // 2 - 1, SIZE[1] // 2)
    here = PLANE.places(*SIZE)[0, :, column, 1].squeeze(1)
    return here, here + motion[0, 1, :, column].squeeze(1)


@pytest.mark.parametrize("pressed", [0.0, -0.02])
def test_a_smile_closes_and_its_teeth_are_gone(pressed):
    here, source = fetched(mouth(0.08), mouth(pressed))
    assert not ((source > 0.2 - 0.035) & (source < 0.2 + 0.035)).any()
    assert (source.diff() > 0).all()  # nothing is folded
    step = here.diff().mean()
    assert source.diff().max() > 0.07  # from one lip to the other within a pixel
    assert source.diff().sort().values[:-1].max() < 2.1 * step


def test_shut_lips_part_with_all_of_their_own():
    here, source = fetched(mouth(0.0), mouth(0.1))
    upper, lower = (here < 0.15) & (here > 0.12), (here > 0.25) & (here < 0.28)
    torch.testing.assert_close(source[upper], here[upper] + 0.05, atol=0.004, rtol=0)
    torch.testing.assert_close(source[lower], here[lower] - 0.05, atol=0.004, rtol=0)


def test_the_face_around_stays_and_so_does_a_mouth_that_moves_as_it_should():
    missing = mouth(0.1) - mouth(0.05)
    motion = lip_motion(PLANE, mouth(0.05), around(mouth(0.05)), missing, missing, *SIZE)
    assert motion[..., [0, -1], :].abs().max() == 0 == motion[..., [0, -1]].abs().max()
    assert motion.abs().max() == pytest.approx(0.025, abs=0.002)
    missing = torch.zeros(1, 4, 2)
    assert not lip_motion(PLANE, mouth(0.05), around(mouth(0.05)), missing, missing, *SIZE).any()


def test_lips_get_thinner_where_their_outer_edges_stay():
    driving = mouth(0.1)
    missing = mouth(0.0) - driving
    motion = lip_motion(PLANE, driving, around(driving), missing, torch.zeros(1, 4, 2), *SIZE)
    here, down = PLANE.places(*SIZE)[0, :, SIZE[1] // 2 - 1, 1], motion[0, 1, :, SIZE[1] // 2 - 1]
    assert down[(here - 0.15).abs().argmin()] == pytest.approx(0.05, abs=0.006)
    assert down[(here - 0.12).abs().argmin()] == pytest.approx(0.025, abs=0.006)
    assert down[here < 0.09].abs().max() < 0.002


def test_lips_that_are_pressed_into_one_another_leave_no_opening():
    places = PLANE.places(*SIZE)
    assert polygon_coverage(mouth(0.1), places).any() and not polygon_coverage(mouth(-0.1), places).any()


def test_lips_that_are_hardly_parted_meet_half_way():
    decoder = MouthDecoder(KEYPOINTS, (0, 1, 2, 3, 4), (5, 6, 7, 8), 4, features=4, channels=(4, 4), detail_channels=2)

    def own(gap):
        keypoints = torch.zeros(1, KEYPOINTS, 3)
        keypoints[:, 5:9, :2] = mouth(gap)
        return decoder.own_lips(keypoints)

    torch.testing.assert_close(own(0.03), mouth(0.0))
    # no tooth at the edge of those that are
    torch.testing.assert_close(own(0.1), mouth(0.1 + 2 * MouthDecoder.TOOTHLESS * 0.4))


@torch.no_grad()
def test_frames_in_which_nothing_is_drawn_are_the_same_beside_others():
    torch.manual_seed(0)
    model = DetailRenderer(**DETAIL).eval()
    keypoints = torch.rand(1, KEYPOINTS, 3) - 0.5
    driving = keypoints[:, None].repeat(1, 3, 1, 1)
    for frame, gap in enumerate((0.2, -0.05, 0.1)):
        driving[0, frame, 5:9, :2] = mouth(gap)
    picture = torch.rand(1, 3, 256, 256)
    made = model(picture, keypoints, driving)
    assert torch.equal(made.frames[0, 1], made.warped_picture[0, 1])
    for frame in range(3):
        alone = model(picture, keypoints, driving[:, frame : frame + 1])
        torch.testing.assert_close(alone.frames[0, 0], made.frames[0, frame], atol=1e-4, rtol=0)
    assert (made.frames - made.warped_picture)[0, [0, 2]].abs().amax((1, 2, 3)).min() > 0.01
