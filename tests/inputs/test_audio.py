import librosa
import numpy as np
import pytest
import torch
from python_speech_features import mfcc as reference_mfcc

from eat_hf.constants import SAMPLING_RATE
from eat_hf.inputs import audio


def noise(samples: int, seed: int = 0) -> np.ndarray:
    """Speech-like: noise whose loudness and tone change."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / SAMPLING_RATE
    voice = np.sin(2 * np.pi * 180 * time + 3 * np.sin(9 * time)) * (0.2 + 0.2 * np.sin(5 * time))
    return (voice + 0.05 * rng.normal(size=samples)).astype(np.float32)


@pytest.mark.parametrize("samples", [100, 400, 401, 3_200, 16_000, 50_033])
def test_mfcc_equals_python_speech_features(samples):
    values = np.round(noise(samples) * 20_000).astype(np.int16)
    expected = reference_mfcc(values, samplerate=16_000, numcep=26)
    np.testing.assert_allclose(audio.mfcc(values), expected, rtol=1e-9, atol=1e-9)


def test_loudness_of_every_frame():
    waveform = torch.from_numpy(np.concatenate([np.full(640, 0.5), np.tile([0.25, -0.25], 320), np.ones(320)]))
    assert audio.loudness(waveform, 4).tolist() == pytest.approx([0.5, 0.25, np.sqrt(0.5), 0])
    assert audio.loudness(waveform, 2).tolist() == pytest.approx([0.5, 0.25])


def test_mfcc_of_silence_equals_python_speech_features():
    values = np.zeros(8_000, np.int16)
    values[4_000:4_100] = 1_000
    np.testing.assert_allclose(audio.mfcc(values), reference_mfcc(values, 16_000, numcep=26), rtol=1e-9, atol=1e-9)


def test_deepspeech_features_are_the_rows_around_each_row_standardised():
    waveform = noise(24_000)
    values = np.round(waveform * 32768).astype(np.int16)
    rows = reference_mfcc(values, samplerate=16_000, numcep=26)[::2]
    expected = np.zeros((len(rows), 19, 26))
    for i in range(len(rows)):
        for j in range(19):
            if 0 <= i + j - 9 < len(rows):
                expected[i, j] = rows[i + j - 9]
    expected = (expected - expected.mean()) / expected.std()
    ours = audio.deepspeech_features(torch.from_numpy(waveform))
    assert ours.dtype == torch.float32
    np.testing.assert_allclose(ours, expected.reshape(len(rows), 494), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [300, 401, 560, 561, 720, 721, 5_000])
def test_every_second_row(length):
    samples = 1000 * noise(length)
    np.testing.assert_allclose(audio.mfcc(samples, stride=2), audio.mfcc(samples)[::2], rtol=1e-9, atol=1e-9)


def test_blocks_do_not_show(monkeypatch):
    waveform = torch.from_numpy(noise(50_017))
    samples = (waveform * 32768).numpy()
    whole = audio.log_mel(waveform), audio.mfcc(samples), audio.deepspeech_features(waveform)
    monkeypatch.setattr(audio, "BLOCK", 7)
    torch.testing.assert_close(audio.log_mel(waveform), whole[0])
    np.testing.assert_allclose(audio.mfcc(samples), whole[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(audio.deepspeech_features(waveform), whole[2])


def test_deepspeech_features_clip_what_is_too_loud_for_int16():
    loud = torch.tensor([2.0, -2.0] * 800)
    clipped = audio.deepspeech_features(loud / 2)
    torch.testing.assert_close(audio.deepspeech_features(loud), clipped, atol=1e-3, rtol=0)


def test_deepspeech_features_of_silence_are_finite():
    assert audio.deepspeech_features(torch.zeros(8_000)).isfinite().all()


@pytest.mark.slow
def test_log_mel_equals_librosa():
    waveform = noise(20_000)
    power = librosa.feature.melspectrogram(
        y=waveform,
        sr=16_000,
        n_fft=2048,
        hop_length=640,
        win_length=640,
        window="hann",
        center=True,
        pad_mode="reflect",
        n_mels=80,
        fmin=0,
        fmax=8000,
        htk=True,
        norm=None,
    )
    expected = (np.log(1e-5 + power.T) + 4) / 4
    np.testing.assert_allclose(audio.log_mel(torch.from_numpy(waveform)), expected, rtol=1e-3, atol=1e-4)


def test_log_mel_keeps_leading_axes_and_the_time():
    waveform = torch.zeros(2, 3, 16_000)
    waveform[1, 2, 6_400:7_040] = torch.from_numpy(noise(640))  # around 0.42 s
    mel = audio.log_mel(waveform)
    assert mel.shape == (2, 3, 26, 80)
    loudest = mel[1, 2].mean(-1).argmax()
    assert loudest in (10, 11)
    torch.testing.assert_close(mel[1, 2], audio.log_mel(waveform[1, 2]))


def test_log_mel_refuses_less_than_a_window():
    with pytest.raises(ValueError, match="too short: 1024 samples"):
        audio.log_mel(torch.zeros(1024))


def test_semantic_windows_are_centred_on_frames():
    rows = 50  # one second
    logits = torch.arange(rows, dtype=torch.float32).reshape(1, rows, 1) + 1
    windows = audio.semantic_windows(logits, seconds=1.0)
    assert windows.shape == (1, 25, 16, 1)
    middle = windows[0, :, 8, 0]  # row 8 of window f is what is said at frame f
    assert middle.tolist() == [2 * f + 1 for f in range(25)]
    assert (windows[0, 0, :8] == 0).all() and (windows[0, 0, 8:] > 0).all()
    assert windows[0, 24, -8:, 0].tolist() == [49] + [0] * 7  # the 50th row is dropped, then zeros


def test_semantic_windows_repeat_the_last_row_when_the_clip_is_longer():
    windows = audio.semantic_windows(torch.tensor([[[1.0], [2.0]]]), seconds=0.12)  # 6 points, the last dropped
    assert windows[0, 0, 8:, 0].tolist() == [1, 2, 2, 2, 2, 0, 0, 0]


def test_frame_windows():
    frames = torch.arange(1.0, 5.0).reshape(4, 1)
    repeated = audio.frame_windows(frames, radius=2)[..., 0]
    assert repeated.tolist() == [[1, 1, 1, 2, 3], [1, 1, 2, 3, 4], [1, 2, 3, 4, 4], [2, 3, 4, 4, 4]]
    padded = audio.frame_windows(frames, radius=2, padding=torch.tensor([9.0]))[..., 0]
    assert padded.tolist() == [[9, 9, 1, 2, 3], [9, 1, 2, 3, 4], [1, 2, 3, 4, 9], [2, 3, 4, 9, 9]]
    torch.testing.assert_close(audio.frame_windows(frames, 2, 0.0)[0, :, 0], torch.tensor([0.0, 0, 1, 2, 3]))
    assert audio.frame_windows(torch.randn(3, 16, 29)).shape == (3, 11, 16, 29)


def test_sync_mel_equals_librosa():
    waveform = noise(16_000)
    emphasised = np.append(waveform[:1], waveform[1:] - 0.97 * waveform[:-1])
    magnitudes = np.abs(librosa.stft(emphasised, n_fft=800, hop_length=200, win_length=800, pad_mode="constant"))
    bands = librosa.filters.mel(sr=16_000, n_fft=800, n_mels=80, fmin=55, fmax=7600) @ magnitudes
    decibels = 20 * np.log10(np.maximum(1e-5, bands)) - 20
    expected = np.clip(8 * (decibels + 100) / 100 - 4, -4, 4).T
    np.testing.assert_allclose(audio.sync_mel(waveform), expected, atol=1e-3)
    assert audio.sync_mel(np.zeros(16_000)).max() == -4


@pytest.mark.parametrize(
    ("samples", "length"),
    [(1_025, 1), *((samples, length) for samples in (3_200, 6_720, 9_999) for length in (160, 641, 4_000, 100_000))],
)
def test_mel_columns_of_sound_in_pieces_are_those_of_the_whole(samples, length):
    waveform = torch.randn(samples, generator=torch.Generator().manual_seed(2))
    pieces, found, heard = audio.MelInPieces(), [], 0
    for part in waveform.split(length):
        found.append(pieces.push(part))
        heard += len(part)
        assert sum(map(len, found)) == (heard + 320) // 640 if heard > 320 else not any(map(len, found))
    found.append(pieces.push(waveform[:0], last=True))
    torch.testing.assert_close(torch.cat(found), audio.log_mel(waveform), rtol=1e-5, atol=1e-5)


def test_mel_columns_in_pieces_refuse_less_than_a_window():
    pieces = audio.MelInPieces()
    pieces.push(torch.zeros(1_000))
    with pytest.raises(ValueError, match="too short"):
        pieces.push(torch.zeros(24), last=True)
