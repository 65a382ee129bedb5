"""Sound in pieces is what `read_audio` hears of the whole."""

import numpy as np
import pytest
from conftest import voice

from eat_hf.errors import UserError
from eat_hf.media.recordings import LiveSound, read_audio


def heard(sound, rate, step):
    live = LiveSound()
    parts = [live.push(sound[..., at : at + step], rate) for at in range(0, sound.shape[-1], step)]
    found = np.concatenate([*parts, live.finish()])
    assert live.seconds == pytest.approx(sound.shape[-1] / rate)
    return found


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("milliseconds", [5, 20, 700])
def test_pieces_are_heard_as_the_whole(rate, milliseconds):
    sound = voice(1.234, rate)
    both = np.stack([sound, 0.3 * np.roll(sound, rate // 100)])
    for samples in (sound, both):
        found = heard(samples, rate, rate * milliseconds // 1000)
        np.testing.assert_allclose(found, read_audio((samples, rate)).waveform, atol=1e-6)


def test_pieces_of_a_few_samples_keep_their_channels():
    sound = np.stack([voice(0.3), 0.5 * voice(0.3)])
    live = LiveSound()
    parts = [live.push(sound[:, :1000], 16_000), live.push(sound[:, :0], 16_000)]
    parts += [live.push(sound[:, at : at + 1], 16_000) for at in range(1000, 1010)]
    parts += [live.push(sound[:, 1010:].T, 16_000)]
    np.testing.assert_allclose(np.concatenate(parts), sound.mean(0), atol=1e-7)


def test_whole_numbers_are_scaled():
    sound = (32_767 * voice(0.3)).astype(np.int16)
    np.testing.assert_allclose(LiveSound().push(sound, 16_000), sound / 32_768, atol=1e-7)


def test_the_rate_may_change_on_the_way():
    live = LiveSound()
    parts = [live.push(voice(0.5, 48_000), 48_000), live.push(voice(0.5, 44_100), 44_100), live.finish()]
    assert live.seconds == 1 and len(np.concatenate(parts)) == 16_000


def test_what_is_no_sound_changes_nothing():
    live = LiveSound()
    for wrong, rate in (([np.inf], 16_000), (np.zeros((3, 50)), 16_000), ([0.0], 7), (["a"], 16_000)):
        with pytest.raises(UserError):
            live.push(np.array(wrong), rate)
    assert live.seconds == 0 and len(live.finish()) == 0
