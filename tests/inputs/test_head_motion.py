import pytest
import torch

from eat_hf.errors import UserError
from eat_hf.inputs.head_motion import HeadMotion


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


def test_blinks_last_through_changes_of_rate_and_start(tmp_path):
    closure = torch.tensor([0.5, 1.0, 0.0])
    blinking = motion([1, 2, 3], fps=12.5, blink=closure)
    assert blinking.resampled(5).blink.tolist() == [0.5, 0.75, 1, 0.5, 0]
    assert torch.equal(blinking.relative_to_start().blink, closure)
    blinking.save(tmp_path / "m.safetensors")
    assert torch.equal(HeadMotion.load(tmp_path / "m.safetensors").blink, closure)


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
