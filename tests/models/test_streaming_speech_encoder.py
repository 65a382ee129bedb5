import pytest
import torch

from eat_hf.inputs.audio import semantic_windows
from eat_hf.models.components import load_component
from eat_hf.models.streaming_speech_encoder import StreamingSpeechEncoder


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    encoder = StreamingSpeechEncoder(bands=16, width=12, blocks=2)
    for block in encoder.convolutions:  # as training leaves them
        block.norm.running_mean.uniform_(-0.1, 0.1)
        block.norm.bias.data.uniform_(-0.3, 0.3)
    return encoder.eval()


def speech(seconds=3.0, clips=1, seed=3):
    samples = round(16_000 * seconds)
    generator = torch.Generator().manual_seed(seed)
    swell = torch.linspace(0, 25, samples).sin()[None]
    return 0.2 * swell * torch.randn(clips, samples, generator=generator)


def pieces(encoder, waveform, lengths):
    """Windows of sound in pieces, and how many were there after each."""
    listening, found, counts = encoder.listen(len(waveform)), [], []
    at, number = 0, 0
    while at < waveform.shape[1]:
        length = lengths[number % len(lengths)]
        found.append(listening.push(waveform[:, at : at + length]))
        counts.append(listening.frames)
        at, number = at + length, number + 1
    return torch.cat([*found, listening.finish()], 1), counts


@pytest.mark.parametrize("milliseconds", [20, 100, 700])
@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.037])
def test_sound_in_pieces_gives_the_features_of_the_whole(encoder, milliseconds, seconds):
    waveform = speech(seconds)
    inside, _ = pieces(encoder, waveform, [16 * milliseconds])
    torch.testing.assert_close(inside, encoder(waveform), rtol=0, atol=0)


def test_pieces_of_any_size_even_none(encoder):
    waveform = speech(1.7, clips=2)
    inside, _ = pieces(encoder, waveform, [1, 0, 333, 5000, 640, 7])
    torch.testing.assert_close(inside, encoder(waveform), rtol=0, atol=0)


def test_windows_come_as_soon_as_nothing_can_change_them(encoder):
    waveform = speech(2.0)
    listening = encoder.listen()
    for frame in range(20):
        needed = 640 * frame + round(16_000 * encoder.window_lookahead)
        while listening.frames <= frame:
            heard = listening._samples
            assert heard < needed
            listening.push(waveform[:, heard : heard + 160])
    late = waveform.clone()
    late[:, 640 * 20 + round(16_000 * encoder.window_lookahead) :] = 0.5
    changed = (encoder(late) != encoder(waveform)).flatten(2).any(2)[0]
    assert not changed[:21].any() and changed[21:].any()


@pytest.mark.parametrize("lookahead", [0.0125, 0.06, 0.16, 0.24])
def test_a_row_depends_on_sound_until_its_lookahead(lookahead):
    torch.manual_seed(1)
    encoder = StreamingSpeechEncoder(bands=8, width=8, blocks=3, lookahead=lookahead).eval()
    waveform = speech(1.0)
    reach = 320 * 20 + 320 * encoder.delay + 200
    assert reach <= 320 * 20 + 16_000 * lookahead
    changes = []
    for begin in (reach, reach - 40):
        other = waveform.clone()
        other[:, begin:] += 0.1
        first, second = (encoder.logits(encoder.features(heard[0])[None]) for heard in (other, waveform))
        rows = (first != second).any(2)[0]
        changes.append(rows[20].item())
        assert not rows[:20].any()
    assert changes == [False, True]


@pytest.mark.parametrize(("samples", "frames"), [(3_200, 5), (16_000, 25), (16_321, 25), (160_000, 250)])
def test_windows_are_cut_as_for_deepspeech(encoder, samples, frames):
    waveform = speech(samples / 16_000, clips=2)
    with torch.no_grad():
        rows = encoder.logits(torch.stack([encoder.features(clip) for clip in waveform]))
        windows = encoder(waveform)
    assert windows.shape == (2, frames, 16, 29)
    torch.testing.assert_close(windows, semantic_windows(rows, samples / 16_000), atol=1e-4, rtol=1e-4)


def test_memory_stays_what_it_was(encoder):
    listening, waveform = encoder.listen(), speech(0.5)

    def kept():
        tensors = [listening._sound, listening._scores, *listening._state]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    sizes = []
    for _ in range(40):
        listening.push(waveform)
        sizes.append(kept())
    assert max(sizes[20:]) <= max(sizes[2:20])


def test_two_who_listen_do_not_hear_each_other(encoder):
    one, other = speech(1.0, seed=1), speech(1.0, seed=2)
    first, second = encoder.listen(), encoder.listen()
    heard = [[], []]
    for at in range(0, 16_000, 1_000):
        heard[0].append(first.push(one[:, at : at + 1_000]))
        heard[1].append(second.push(other[:, at : at + 1_000]))
    torch.testing.assert_close(torch.cat([*heard[0], first.finish()], 1), encoder(one), rtol=0, atol=0)
    torch.testing.assert_close(torch.cat([*heard[1], second.finish()], 1), encoder(other), rtol=0, atol=0)


def test_nothing_is_heard_after_the_end_nor_of_another_shape(encoder):
    listening = encoder.listen()
    with pytest.raises(ValueError, match=r"waveform must be \(1, n\)"):
        listening.push(torch.zeros(100))
    listening.finish()
    for call in (listening.finish, lambda: listening.push(torch.zeros(1, 100))):
        with pytest.raises(ValueError, match="over"):
            call()


@pytest.mark.parametrize("settings", [{"kernel": 4}, {"lookahead": 0.01}, {"lookahead": float("nan")}])
def test_settings_that_make_no_encoder(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        StreamingSpeechEncoder(**settings)


def test_save_and_load_by_the_class_that_the_folder_names(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    loaded = load_component(tmp_path)
    assert isinstance(loaded, StreamingSpeechEncoder) and loaded.config.lookahead == 0.16
    torch.testing.assert_close(loaded(speech(0.5)), encoder(speech(0.5)), rtol=0, atol=0)


def test_it_hears_in_half_precision(encoder):
    waveform = speech(1.0)
    half = StreamingSpeechEncoder(**{k: v for k, v in encoder.config.items() if not k.startswith("_")})
    half.load_state_dict(encoder.state_dict())
    half.eval().to(torch.bfloat16)
    assert half(waveform).dtype == torch.bfloat16
    torch.testing.assert_close(half(waveform).float(), encoder(waveform), atol=0.1, rtol=0.1)


def test_it_can_be_trained():
    encoder = StreamingSpeechEncoder(bands=8, width=8, blocks=2)
    logits = encoder.logits(torch.stack([encoder.features(clip) for clip in speech(0.4, clips=2)]))
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.zeros(40, dtype=torch.long)).backward()
    assert all(weight.grad is not None for weight in encoder.parameters())


def test_the_bundled_size_is_small():
    assert sum(weight.numel() for weight in StreamingSpeechEncoder().parameters()) < 900_000
