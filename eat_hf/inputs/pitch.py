"""The pitch of a voice: YIN (de Cheveigné and Kawahara, 2002), once a video frame."""

import numpy as np

from ..constants import FPS, SAMPLING_RATE

HOP = SAMPLING_RATE // FPS
LOWEST, HIGHEST = 70.0, 420.0  # Hz
WINDOW = 512  # samples that are compared with those a period later
DIP = 0.2  # the first period whose samples differ by less than that share of the mean is the period
BLOCK = 512  # frames taken at a time


def track_pitch(waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of (N,) samples at 16 kHz, the pitch in Hz (frames,) of all N / 640 video frames, the last one begun, and what of
    each is no tone, from 0 to about 1 (frames,): below 0.3 there is a voice. Around the middle of frames."""
    longest, shortest = int(SAMPLING_RATE / LOWEST), int(SAMPLING_RATE / HIGHEST)
    frames, size = -(-len(waveform) // HOP), WINDOW + longest
    transform = 2 ** (size - 1).bit_length()
    before = size // 2 - HOP // 2
    padded = np.pad(waveform, (before, size + frames * HOP - len(waveform)))
    pitch, noise = np.empty(frames), np.empty(frames)
    for start in range(0, frames, BLOCK):
        block = np.arange(start, min(start + BLOCK, frames))
        sound = padded[block[:, None] * HOP + np.arange(size)].astype(np.float64)
        spectrum = np.conj(np.fft.rfft(sound[:, :WINDOW], transform)) * np.fft.rfft(sound, transform)
        alike = np.fft.irfft(spectrum, transform)[:, : longest + 1]
        power = np.cumsum(np.pad(sound**2, ((0, 0), (1, 0))), 1)
        power = power[:, WINDOW : WINDOW + longest + 1] - power[:, : longest + 1]
        difference = np.maximum(power[:, :1] + power - 2 * alike, 0)[:, 1:]
        mean = np.cumsum(difference, 1) / np.arange(1, longest + 1)
        share = (difference / np.maximum(mean, 1e-12))[:, shortest - 1 :]
        falls = np.pad(share[:, 1:] < share[:, :-1], ((0, 0), (0, 1)))
        bottoms = (share < DIP) & ~falls
        period = np.where(bottoms.any(1), bottoms.argmax(1), share.argmin(1))
        pitch[block] = SAMPLING_RATE / (period + shortest)
        noise[block] = np.where(power[:, 0] > 0, share[np.arange(len(block)), period], 1.0)
    return pitch, noise
