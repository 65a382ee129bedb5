import dataclasses

import pytest
import torch

from eat_hf import StreamingSpeechEncoder
from eat_hf.animation.expression import SpeechInPieces, hear
from eat_hf.errors import UserError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def networks(tiny_pipeline):
    torch.manual_seed(4)
    encoder = StreamingSpeechEncoder(bands=16, width=8, blocks=1).eval()
    return dataclasses.replace(tiny_pipeline.networks, speech_encoder=encoder)


def voice(samples):
    generator = torch.Generator().manual_seed(5)
    return 0.3 * torch.linspace(0, 20, samples).sin() * torch.randn(samples, generator=generator)


def in_pieces(networks, waveform, length):
    pieces = SpeechInPieces(networks, CPU)
    found = [pieces.push(part) for part in waveform.split(length)]
    found.append(pieces.push(waveform[:0], last=True))
    counts = [len(features.mel) for features in found]
    fields = ("semantic", "mel", "energy")
    return {name: torch.cat([getattr(features, name) for features in found]) for name in fields}, counts, pieces


@pytest.mark.parametrize("milliseconds", [20, 100, 700])
@pytest.mark.parametrize("samples", [3_200, 16_000, 16_321, 16_639, 45_123])
def test_sound_in_pieces_gives_the_features_of_the_whole(networks, samples, milliseconds):
    waveform, frames = voice(samples), -(-samples // 640)
    whole = hear(networks, waveform, frames, CPU)
    found, _, _ = in_pieces(networks, waveform, 16 * milliseconds)
    semantic = torch.cat([whole.semantic, whole.semantic[-1:]])[:frames]  # the last is said like the one before
    torch.testing.assert_close(found["semantic"], semantic, rtol=0, atol=0)
    torch.testing.assert_close(found["mel"], whole.mel, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["energy"], whole.energy)


def test_frames_come_after_their_lookahead_and_no_later(networks):
    _, counts, pieces = in_pieces(networks, voice(32_000), 640)
    first = next(number for number, count in enumerate(counts) if count)
    assert pieces.lookahead <= (first + 1) / 25 < pieces.lookahead + 2 / 25
    assert counts[first:50] == [1] * (50 - first)


def test_a_model_that_hears_whole_recordings_says_so(tiny_pipeline):
    with pytest.raises(UserError, match="does not hear sound as it comes"):
        SpeechInPieces(tiny_pipeline.networks, CPU)
