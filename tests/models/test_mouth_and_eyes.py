"""What the bundled renderer draws: teeth where skull and jaw have them, eyes where they change."""

import pytest
import torch
from tiny_renderers import DETAIL, EYES, KEYPOINTS, face

from eat_hf import DetailRenderer
from eat_hf.keypoints import rotation_from_degrees
from eat_hf.models.eye_decoder import HEIGHT, WIDTH, EyeDecoder, EyePoints
from eat_hf.models.layers import pixel_grid
from eat_hf.models.mouth_decoder import MouthDecoder
from eat_hf.models.mouth_guide import MouthGuide
from eat_hf.models.patches import in_tones_of

RIGID = (0, 1, 2, 3, 4)
TEETH = 4


def heads(count, seed=0):
    """Keypoints (N, K, 3) and points (N, P, 3) of made-up heads of every size and pose; the jaw is keypoint 5."""
    torch.manual_seed(seed)
    mean = 0.5 * torch.randn(KEYPOINTS, 3)
    at = torch.linspace(-0.15, 0.15, TEETH + 1)
    upper = torch.stack([torch.stack([at, torch.full_like(at, y), 0.1 - at**2], -1) for y in (0.2, 0.3)], 1)
    lower = torch.stack([torch.stack([at, torch.full_like(at, y), 0.1 - at**2], -1) for y in (0.45, 0.35)], 1)
    torch.manual_seed(seed + 1)
    keypoints, points = [], []
    for _ in range(count):
        jaw = 0.2 * torch.rand(())
        k, down = mean.clone(), torch.tensor([0.0, 1.0, 0.0]) * jaw
        k[5] += down
        p = torch.stack([upper, lower + down]).reshape(-1, 3)
        turn = rotation_from_degrees(*(10 * torch.randn(3, 1)))[0] * (1 + 0.05 * torch.randn(()))
        shift = 0.05 * torch.randn(3)
        keypoints.append(k @ turn.mT + shift)
        points.append(p @ turn.mT + shift)
    return torch.stack(keypoints), torch.stack(points)


@pytest.fixture(scope="module")
def guide():
    guide = MouthGuide(KEYPOINTS, RIGID, TEETH)
    guide.fit(*heads(400))
    return guide


def test_teeth_follow_head_and_jaw(guide):
    keypoints, points = heads(50, seed=0)
    error = (guide.points(keypoints) - points).norm(dim=-1)
    still = (guide.mean_points - points).norm(dim=-1)
    assert error.mean() < 0.01 and error.mean() < 0.1 * still.mean()


def test_the_map_of_teeth(guide):
    points = heads(1)[1]
    places = pixel_grid(128, 128, like=points)[None]
    upper, meets, down, *_, position = guide.draw(points, places)[0]
    arch = points[0].reshape(2, TEETH + 1, 2, 3)
    middle = arch[0, 2:4].mean((0, 1))[:2]  # of the third upper tooth
    row, column = (int((c + 1) * 64) for c in middle.flip(0))
    assert upper[row, column] == 1 and meets[row, column] < -0.8 and 0.3 < down[row, column] < 0.7
    between = arch[0, 2].mean(0)[:2]
    row, column = (int((c + 1) * 64) for c in between.flip(0))
    assert meets[row, column] > 0.5
    assert upper[0, 0] == 0 and position.min() == -1 and position.max() == 1
    area = (arch[0, -1, 0, 0] - arch[0, 0, 0, 0]).abs() * (arch[0, :, 1, 1] - arch[0, :, 0, 1]).mean().abs()
    assert abs(upper.sum() / 64**2 - area) < 0.25 * area


def test_a_head_from_the_side_gives_finite_maps(guide):
    keypoints, _ = heads(1)
    turned = keypoints @ rotation_from_degrees(*(torch.tensor([angle]) for angle in (80.0, 10.0, 0.0))).mT[0]
    maps = guide.draw(guide.points(turned), pixel_grid(32, 32, like=turned)[None])
    assert maps.isfinite().all() and maps.abs().max() <= 2


def test_an_eye_patch_is_seen_from_its_outer_corner():
    plane = EyeDecoder(EYES).plane(face())
    assert torch.allclose(plane.centre, torch.tensor([[-0.3, 0.0], [0.3, 0.0]]))
    right, down = plane.axes.unbind(1)
    # the picture's left eye has its outer corner on the left: its patch is as in the picture, the other's is mirrored
    assert torch.allclose(right, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]) * 0.3 * EyeDecoder.REACH[0], atol=1e-6)
    assert torch.allclose(down, torch.tensor([[0.0, 1.0], [0.0, 1.0]]) * 0.3 * EyeDecoder.REACH[1], atol=1e-6)


def test_eyes_that_stay_are_not_drawn():
    decoder = EyeDecoder(EYES)
    assert decoder.maps(face(), face())[1].max() == 0
    for changed in (face(openness=0.0), face(gaze=0.2)):
        where = decoder.maps(face(), changed)[1]
        assert where.shape == (2, 1, HEIGHT, WIDTH)
        assert where[:, 0, HEIGHT // 2, WIDTH // 2].min() == 1 and where[:, 0, [0, -1]].max() == 0


def test_an_iris_turns_as_a_whole_and_lids_stay():
    decoder = EyeDecoder(EYES)
    assert not decoder.turn(face(), face()).any()
    looking = face(gaze=0.05)
    turned = decoder.turn(face(), looking)
    assert turned.shape == (2, 2, HEIGHT, WIDTH)
    place = decoder.plane(looking).places(HEIGHT, WIDTH)
    for eye, x in enumerate((-0.3, 0.3)):
        from_pupil = (place[eye] - torch.tensor([x + 0.015, 0.0])).norm(dim=-1)
        assert torch.allclose(turned[eye, 0][from_pupil < 0.01], torch.tensor(-0.015), atol=1e-4)
        outside = (place[eye, ..., 1].abs() > 0.045) | ((place[eye, ..., 0] - x).abs() > 0.15)
        assert not turned[eye][:, outside].any() and not turned[eye, 1].any()
    assert decoder.maps(face(), looking)[1].max() == 0  # there is nothing to draw


@pytest.mark.parametrize("gaze", [(0.1, 0.0), (0.0, 0.06), (-0.08, -0.06)])
def test_turning_eyes_do_not_fold_the_picture_and_stay_in_it(gaze):
    looking = face(openness=0.4)
    looking[:, 8:, :2] += 0.3 * torch.tensor(gaze)
    decoder = EyeDecoder(EYES)
    turned = decoder.turn(face(openness=0.4), looking)
    assert turned.abs().amax((0, 2, 3))[0] <= 0.3 * 0.079 and turned.abs().amax((0, 2, 3))[1] <= 0.3 * 0.051
    where_from = decoder.plane(looking).places(HEIGHT, WIDTH).movedim(-1, 1) + turned
    assert (where_from[:, 1].diff(dim=1) > 0).all()
    assert (where_from[0, 0].diff(dim=1) > 0).all() and (where_from[1, 0].diff(dim=1) < 0).all()


def test_a_fresh_decoder_keeps_the_eyes():
    decoder = EyeDecoder(EYES)
    picture = 0.1 + 0.8 * torch.rand(2, 3, HEIGHT, WIDTH)
    maps = decoder.maps(face(), face(0.0))[0]
    assert (decoder(picture, maps) - picture).abs().max() < 0.03
    torch.nn.init.normal_(decoder.to_colour.weight)
    assert (decoder(picture, maps) - picture).abs().mean() > 0.02


def test_colours_that_eyes_are_drawn_in_are_bounded_whatever_the_portrait():
    """Dark lashes of photographs once became orange: what was added to each channel knew no bounds."""
    decoder = EyeDecoder(EYES)
    torch.nn.init.normal_(decoder.to_colour.weight, std=10)
    picture = torch.rand(2, 3, HEIGHT, WIDTH) * 3 - 1
    drawn = decoder(picture, decoder.maps(face(), face(0.0))[0])
    low, high = picture.clamp(max=0), picture.clamp(min=1)
    assert (drawn >= low - 1e-5).all() and (drawn <= high + 1e-5).all()


def test_lids_that_close_move_with_their_lashes_over_the_eye():
    decoder, width = EyeDecoder(EYES), 0.3
    before, now = face(0.3), face(0.3)
    now[:, [4, 5], 1] = 0.0  # upper lids come down to the middle
    places, weight = decoder.unfold(before, now)
    assert places.shape == (2, HEIGHT, WIDTH, 2)
    here = decoder.plane(now).places(HEIGHT, WIDTH)
    shift = (places - here)[:, :, WIDTH // 2, 1] / width  # in the middle of each eye
    height = here[:, :, WIDTH // 2, 1] / width
    upper = before[0, 4, 1] / width
    for eye in range(2):
        lid = (height[eye] < 0) & (height[eye] > -0.05)
        assert torch.allclose(shift[eye][lid], upper.expand(int(lid.sum())), atol=0.01)
        still = (height[eye] > 0.04) | (height[eye] < upper - EyeDecoder.FOLD)
        assert still.any() and shift[eye][still].abs().max() < 1e-5
        fetched = (height[eye] + shift[eye])[height[eye] < 0]
        assert (fetched.diff() > 0).all()  # nothing is folded or shown twice
    assert weight.max() == 1 and weight[:, 0].max() == 0
    for other in (before, face(0.4)):  # nothing closes
        assert not decoder.unfold(before, other)[1].any()


def test_only_the_eye_that_winks_is_drawn():
    decoder = EyeDecoder(EYES)
    wink = face()
    wink[:, [4, 6], 1] = 0.0  # the picture's left eye: upper and lower lid
    _, where = decoder.maps(face(), wink)
    assert where[0].max() == 1 and where[1].max() == 0


def test_maps_say_where_lids_and_pupil_are():
    maps, _ = EyeDecoder(EYES).maps(face(), face(0.2, 0.1))
    below_upper, below_lower, along, pupil, now, before, moved = maps[0, :, :, WIDTH // 2].unbind(0)
    height = torch.linspace(-1, 1, HEIGHT) * EyeDecoder.REACH[1]
    row = (height + 0.1).abs().argmin()  # where the upper lid is
    assert abs(below_upper[row]) < 0.02 and below_lower[row] < -0.15
    assert along.abs().max() < 0.02
    assert torch.allclose(now[row], torch.tensor(0.2)) and torch.allclose(before[row], torch.tensor(0.3))
    assert moved[row] > 0.05 and pupil.min() < 0.2
    points = EyePoints.of(face(0.2), list(EYES))
    assert torch.allclose(points.openness, torch.tensor([[0.2, 0.2]]))
    # the pupil has moved to the right: to the inner corner of one eye, to the outer one of the other
    left, right = (eye[3][HEIGHT // 2].argmin() for eye in maps)
    assert left > WIDTH // 2 + 2 and right < WIDTH // 2 - 2


def test_the_mouth_patch_turns_with_the_head(guide):
    decoder = MouthDecoder(KEYPOINTS, RIGID, (5, 6, 7), TEETH, features=4, channels=(4, 4), detail_channels=2)
    decoder.guide.load_state_dict(guide.state_dict())
    straight = guide.mean_keypoints[None]
    plane = decoder.plane(straight)
    assert torch.allclose(plane.axes, torch.diag(torch.tensor(MouthDecoder.REACH))[None], atol=0.01)
    rolled = straight @ rotation_from_degrees(*(torch.tensor([angle]) for angle in (0.0, 0.0, 30.0)))[0].mT
    shift = torch.tensor([0.2, -0.1, 0.0])
    moved = decoder.plane(0.5 * rolled + shift)
    turn = rotation_from_degrees(*(torch.tensor([angle]) for angle in (0.0, 0.0, 30.0)))[0, :2, :2]
    torch.testing.assert_close(moved.axes[0], 0.5 * plane.axes[0] @ turn.mT, atol=0.01, rtol=0)
    torch.testing.assert_close(moved.centre[0], rolled[0, [5, 6, 7], :2].mean(0) * 0.5 + shift[:2])


def test_a_mouth_that_is_hardly_open_shows_nothing_of_its_own():
    decoder = MouthDecoder(KEYPOINTS, RIGID, (5, 6, 7), TEETH, features=4, channels=(4, 4), detail_channels=2)
    places = pixel_grid(64, 64, like=torch.zeros(1))[None]

    def shown(height):
        keypoints = torch.zeros(1, KEYPOINTS, 3)
        keypoints[0, [5, 6, 7], :2] = torch.tensor([[-0.5, 0.0], [0.0, -height], [0.5, 0.0]])
        return decoder.shown(keypoints, places)

    assert shown(0.08).max() == 0  # half as much of its width is its area
    assert shown(0.14).max() == pytest.approx(0.5, abs=0.01)
    assert shown(0.3).max() == 1 and shown(0.3).mean() == pytest.approx(0.15 / 4, abs=0.01)


@pytest.mark.parametrize("train", [True, False])
def test_a_renderer_with_both_learns_and_runs(train):
    torch.manual_seed(0)
    model = DetailRenderer(**DETAIL, eyes=EYES).train(train)
    torch.nn.init.normal_(model.eye_decoder.to_colour.weight)
    keypoints, points = heads(40)
    model.mouth_decoder.guide.fit(keypoints * 0.5, points * 0.5)
    picture = torch.rand(2, 3, 256, 256)
    out = model(picture, keypoints[:2] * 0.5, keypoints[2:8].view(2, 3, KEYPOINTS, 3) * 0.5)
    assert out.frames.shape == out.warped_picture.shape == (2, 3, 3, 256, 256)
    out.frames.mean().backward()
    for part in (
        model.eye_decoder.layers[0],
        model.mouth_decoder.stem.conv,
        model.mouth_decoder.refine,
        model.stem.conv,
    ):
        assert part.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.mouth_decoder.guide.parameters())  # fitted, not learnt


def test_it_is_saved_with_what_was_fitted(tmp_path):
    model = DetailRenderer(**DETAIL, eyes=EYES).eval()
    keypoints, points = heads(60)
    model.mouth_decoder.guide.fit(keypoints, points)
    model.save_pretrained(tmp_path)
    again = DetailRenderer.from_pretrained(tmp_path)
    assert torch.equal(again.mouth_decoder.guide.points(keypoints), model.mouth_decoder.guide.points(keypoints))


def test_what_is_drawn_into_a_toned_picture_has_its_tones():
    torch.manual_seed(0)
    light, tone = torch.rand(1, 1, 20, 30), torch.tensor([1.0, 0.8, 0.5]).view(1, 3, 1, 1)
    drawn, seen = 0.6 * torch.rand(1, 3, 20, 30), torch.ones(1, 1, 20, 30)
    seen[..., 10:] = 0  # what is hidden there is nobody's business
    picture = torch.where(seen > 0, light * tone, torch.rand(1, 3, 20, 30))
    toned = in_tones_of(picture, drawn, seen)
    torch.testing.assert_close(toned[:, 1] / toned[:, 0], torch.full((1, 20, 30), 0.8), atol=0.01, rtol=0)
    assert torch.corrcoef(torch.stack([toned.mean(1).flatten(), drawn.mean(1).flatten()]))[0, 1] > 0.99
    coloured = picture + 0.05 * torch.randn(1, 3, 20, 30)
    torch.testing.assert_close(in_tones_of(coloured, drawn, seen), drawn)
