import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from eat_hf.errors import UserError
from eat_hf.inputs.head_motion import TRACKS, GivenMotion, HeadMotion, NaturalMotion


def motion(values, **options):
    values = torch.tensor(values, dtype=torch.float32)
    zeros = torch.zeros(len(values))
    return HeadMotion(values, zeros, zeros, torch.stack([values, zeros, zeros], 1), **options)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def test_still_does_nothing():
    still = HeadMotion.still(7)
    assert len(still) == 7 and still.relative
    assert not any(x.any() for x in (still.yaw, still.pitch, still.roll, still.translation))


def test_natural_motion_is_small_smooth_and_starts_from_the_portrait():
    energy = torch.rand(3000, generator=generator(0))
    made = [HeadMotion.natural(3000, energy, generator(seed)) for seed in range(5)]
    for name, largest in (("yaw", 5), ("pitch", 3), ("roll", 2)):
        angle = torch.stack([getattr(m, name) for m in made])
        assert (angle[:, 0] == 0).all() and angle[:, 1].abs().max() < 0.1
        assert 0.4 * largest < angle.std() < largest
        assert angle.diff(dim=1).abs().max() < 0.35 * largest  # degrees in a frame
        assert angle.diff(n=2, dim=1).abs().max() < 0.1 * largest  # and no sudden change of speed


def test_natural_motion_goes_with_the_voice():
    silent, loud = torch.zeros(1500), torch.rand(1500, generator=generator(1)) + 0.5

    def speed(energy):
        made = [HeadMotion.natural(1500, energy, generator(seed)) for seed in range(4)]
        return torch.stack([m.pitch.diff().abs().mean() for m in made]).mean()

    assert speed(loud) > 2 * speed(silent)


def test_natural_motion_is_the_seeds():
    energy = torch.ones(40)
    first, again, other = (HeadMotion.natural(40, energy, generator(s)) for s in (3, 3, 4))
    assert torch.equal(first.yaw, again.yaw) and torch.equal(first.translation, again.translation)
    assert not torch.allclose(first.yaw, other.yaw)


def test_natural_motion_blinks_every_few_seconds():
    minute = HeadMotion.natural(1500, torch.ones(1500), generator(0)).blink
    assert minute.min() == 0 and minute.max() == 1 and len(minute) == 1500
    shut = (minute == 1).nonzero()[:, 0]
    assert 12 <= len(shut) <= 30 and shut.diff().min() >= 50 and shut.diff().max() <= 125
    assert (minute > 0).float().mean() < 0.15  # eyes are open most of the time
    assert not HeadMotion.still(100).blink.any()


def test_blinks_and_gaze_last_through_changes_of_rate_and_start(tmp_path):
    closure, gaze = torch.tensor([0.5, 1.0, 0.0]), torch.tensor([[0.0, 2.0], [4.0, 2.0], [4.0, 6.0]])
    blinking = motion([1, 2, 3], fps=12.5, blink=closure, gaze=gaze)
    assert blinking.resampled(5).blink.tolist() == [0.5, 0.75, 1, 0.5, 0]
    assert blinking.resampled(3).gaze.tolist() == [[0, 2], [2, 2], [4, 2]]
    moved = blinking.relative_to_start()
    assert torch.equal(moved.blink, closure) and torch.equal(moved.gaze, gaze)
    blinking.save(tmp_path / "m.safetensors")
    loaded = HeadMotion.load(tmp_path / "m.safetensors")
    assert torch.equal(loaded.blink, closure) and torch.equal(loaded.gaze, gaze)


def test_short_motion_plays_back_and_forth():
    yaw = motion([0, 1, 2, 3]).resampled(11).yaw
    assert yaw.tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2]


def test_other_rates_are_interpolated():
    slow = motion([0, 2, 4], fps=12.5)
    assert slow.resampled(5).translation[:, 0].tolist() == [0, 1, 2, 3, 4]
    fast = motion([0, 1, 2, 3, 4], fps=50)
    assert fast.resampled(3).yaw.tolist() == [0, 2, 4]


def test_one_frame_lasts():
    assert motion([5]).resampled(4).yaw.tolist() == [5] * 4


def test_relative_to_start():
    moved = motion([3, 4, 6], relative=False).relative_to_start()
    assert moved.relative and moved.yaw.tolist() == [0, 1, 3]


def test_smoothing_takes_trembling_and_leaves_turning():
    turning = torch.linspace(0, 20, 50)
    trembling = turning + torch.tensor([1.0, -1.0]).repeat(25)
    smooth = motion(trembling.tolist()).smoothed(0.08).yaw
    assert (smooth - turning)[5:-5].abs().max() < 0.05


def test_saved_and_loaded(tmp_path):
    made = motion([1, 2, 3], relative=False, fps=30)
    made.save(tmp_path / "motion.safetensors")
    loaded = HeadMotion.load(tmp_path / "motion.safetensors")
    assert torch.equal(loaded.yaw, made.yaw) and torch.equal(loaded.translation, made.translation)
    assert loaded.relative is False and loaded.fps == 30


def test_a_still_motion_can_be_saved(tmp_path):
    HeadMotion.still(4).save(tmp_path / "still.safetensors")
    assert len(HeadMotion.load(tmp_path / "still.safetensors")) == 4


def test_wrong_files_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        HeadMotion.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello, this is no tensor file")
    with pytest.raises(UserError, match="not a head motion"):
        HeadMotion.load(tmp_path / "text.safetensors")


@pytest.mark.parametrize("yaw", [torch.zeros(3), torch.full((4,), float("nan")), torch.zeros(4, 2)])
def test_wrong_shapes_and_numbers_are_refused(yaw):
    with pytest.raises(ValueError, match="yaw|pitch"):
        HeadMotion(yaw, torch.zeros(4), torch.zeros(4), torch.zeros(4, 3))


@pytest.mark.parametrize("length", [1, 7, 100])
def test_natural_motion_is_the_same_in_pieces(length):
    energy = torch.rand(250, generator=generator(5)) ** 3
    whole = HeadMotion.natural(250, energy, generator(2), blinks=1.5)
    made = NaturalMotion(generator(2), blinks=1.5)
    pieces = [made.push(part) for part in energy.split(length)]
    for name in TRACKS:
        joined = torch.cat([getattr(piece, name) for piece in pieces])
        torch.testing.assert_close(joined, getattr(whole, name), atol=1e-6, rtol=0)


def test_natural_motion_knows_nothing_of_the_voice_to_come():
    energy = torch.rand(200, generator=generator(6))
    other = torch.cat([energy[:120], 3 * energy[120:]])
    one, two = (HeadMotion.natural(200, sound, generator(0)) for sound in (energy, other))
    for name in TRACKS:
        assert torch.equal(getattr(one, name)[:120], getattr(two, name)[:120])
    assert not torch.allclose(one.pitch[120:], two.pitch[120:])


def test_natural_motion_of_a_soft_voice_is_as_lively_and_a_click_calms_nobody():
    voice = 0.05 + 0.2 * torch.rand(500, generator=generator(7))
    clicking = voice.clone()
    clicking[60] = 5.0
    usual, soft, after = (HeadMotion.natural(500, sound, generator(0)) for sound in (voice, 0.25 * voice, clicking))
    assert torch.allclose(usual.yaw, soft.yaw, atol=1e-3)
    assert (usual.yaw - after.yaw)[150:].abs().max() < 0.05
    noise = HeadMotion.natural(500, 0.001 * torch.rand(500, generator=generator(7)), generator(0))
    silent = HeadMotion.natural(500, torch.zeros(500), generator(0))
    assert (noise.yaw - silent.yaw).abs().max() < 0.2 * (usual.yaw - silent.yaw).abs().max()


def test_what_else_is_drawn_from_the_generator_changes_no_natural_motion():
    shared = generator(1)
    made = NaturalMotion(shared)
    torch.randn(100, generator=shared)
    assert torch.equal(made.push(torch.ones(50)).yaw, HeadMotion.natural(50, torch.ones(50), generator(1)).yaw)


def test_natural_gaze_rests_on_points_near_the_viewer_and_jumps():
    still_head = [HeadMotion.natural(3000, torch.zeros(3000), generator(seed), amount=0) for seed in range(4)]
    gaze = torch.stack([made.gaze for made in still_head])
    assert not gaze[:, 0].any()  # it starts as the portrait looks
    jumps = gaze.diff(dim=1).norm(dim=-1)
    assert 0.94 < (jumps == 0).float().mean() < 0.99
    away = gaze.norm(dim=-1)
    assert (away < 3.01).float().mean() > 0.75 and 5 < away.max() <= 10
    shut = torch.stack([made.blink for made in still_head])[:, 1:] > 0.5
    large = jumps > 3
    assert (large & shut).sum() > 0.35 * large.sum() and large.sum() > 20  # 6 % of frames are shut
    for frames in jumps:
        starts = frames.nonzero()[:, 0]
        starts = starts[torch.cat([torch.tensor([True]), starts.diff() > 1])]  # one that takes two frames is one
        assert starts.diff().min() >= 11 and starts.diff().max() <= 76


def test_eyes_stay_on_the_viewer_while_the_head_turns():
    made = HeadMotion.natural(3000, torch.ones(3000), generator(0))
    turned = torch.stack([made.yaw, made.pitch], 1)
    resting = HeadMotion.natural(3000, torch.ones(3000), generator(0), amount=0).gaze
    torch.testing.assert_close(made.gaze, resting - 0.7 * turned, atol=1e-5, rtol=0)


def test_amounts_of_natural_motion():
    energy = torch.rand(1500, generator=generator(3))

    def natural(**amounts):
        return HeadMotion.natural(1500, energy, generator(0), **amounts)

    usual, none = natural(), natural(amount=0, blinks=0, gaze=0)
    assert not any(getattr(none, name).any() for name in TRACKS)
    twice = natural(amount=2)
    assert torch.allclose(twice.yaw, 2 * usual.yaw) and torch.allclose(twice.translation, 2 * usual.translation)
    assert torch.equal(twice.blink, usual.blink)
    often = natural(blinks=2)
    assert torch.equal(often.pitch, usual.pitch)
    assert 1.5 < (often.blink == 1).sum() / (usual.blink == 1).sum() < 2.5
    wide = natural(amount=0, gaze=2).gaze
    assert torch.allclose(wide, 2 * natural(amount=0).gaze)


def test_scaled_motion_moves_by_so_much():
    lively = motion([1, 3, 5], blink=torch.tensor([0.0, 0.75, 0.0]), gaze=torch.ones(3, 2))
    calm = lively.scaled(0.5, 2, 0.5)
    assert calm.yaw.tolist() == [0.5, 1.5, 2.5] and calm.blink.tolist() == [0, 1, 0] and (calm.gaze == 0.5).all()
    assert motion([1, 3, 5], relative=False).scaled(0.5).yaw.tolist() == [1, 2, 3]
    assert torch.equal(lively.scaled().translation, lively.translation)


@pytest.mark.parametrize("amount", [-0.1, 2.5, float("nan"), float("inf"), "1", True, None])
@pytest.mark.parametrize("name", ["amount", "blinks", "gaze"])
def test_amounts_out_of_range_are_user_errors(name, amount):
    with pytest.raises(UserError, match="must be a number from 0 to 2"):
        HeadMotion.natural(5, torch.ones(5), **{name: amount})
    with pytest.raises(UserError, match="must be a number from 0 to 2"):
        HeadMotion.still(5).scaled(**{name: amount})


def test_files_without_gaze_are_read(tmp_path):
    made = motion([1, 2, 3], fps=30)
    made.save(tmp_path / "motion.safetensors")
    with safe_open(tmp_path / "motion.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in TRACKS if name != "gaze"}
        save_file(tensors, tmp_path / "old.safetensors", file.metadata())
    old = HeadMotion.load(tmp_path / "old.safetensors")
    assert torch.equal(old.yaw, made.yaw) and old.gaze.shape == (3, 2) and not old.gaze.any()


def test_a_given_motion_is_played_to_and_fro_in_pieces():
    given = motion([0, 1, 2, 3])
    whole, playing = given.resampled(40).yaw, GivenMotion(given)
    played = [playing.push(torch.zeros(count)) for count in (1, 5, 20, 14)]
    assert torch.equal(torch.cat([piece.yaw for piece in played]), whole)
    alone = GivenMotion(motion([5]))
    assert alone.push(torch.zeros(3)).yaw.tolist() == alone.push(torch.zeros(3)).yaw.tolist() == [5] * 3
    first = played[0].followed_by(played[1])
    assert torch.equal(first.yaw, whole[:6]) and torch.equal(first.of(slice(2, 4)).yaw, whole[2:4])
