"""The voice as a picture: its loudness over time, coloured by the emotions that show."""

from html import escape

import numpy as np

from ..constants import FPS
from ..inputs.emotions import MAX_INTENSITY, EmotionTrack
from ..media.recordings import Recording

BARS = 150
HEIGHT = 96  # pixels
COLOURS = {
    "neutral": "#8b95a7",
    "happy": "#f2a80d",
    "angry": "#e5484d",
    "sad": "#3e7bfa",
    "surprised": "#e93d9c",
    "fear": "#8e4ec6",
    "disgusted": "#3f9d4b",
    "contempt": "#a8794f",
}
MORE_COLOURS = ("#0fb5ae", "#7cb518", "#ff7a45", "#5b5bd6", "#c0417d", "#18794e")


def colours(emotions: tuple[str, ...]) -> dict[str, str]:
    """A colour for each, the same ones always for those of the base."""
    rest = [name for name in emotions if name not in COLOURS]
    more = {name: MORE_COLOURS[i % len(MORE_COLOURS)] for i, name in enumerate(rest)}
    return {name: COLOURS.get(name) or more[name] for name in emotions}


def draw_waveform(recording: Recording, track: EmotionTrack, emotions: tuple[str, ...]) -> str:
    """HTML with an SVG as wide as the page allows: a bar for each moment, a line for the intensity where it changes,
    and the keyframes below.

    Colours cross-fade as the emotions do.
    """
    loudness = np.array([np.abs(part).max() for part in np.array_split(recording.waveform, BARS)])
    loudness = loudness / max(loudness.max(), 1e-6)
    frames = recording.num_frames
    weights = track.weights(frames, emotions).clip(0)
    palette = colours(emotions)
    rgb = np.array([[int(palette[name][i : i + 2], 16) for i in (1, 3, 5)] for name in emotions])
    moments = ((np.arange(BARS) + 0.5) / BARS * frames).astype(int)
    mixed = weights[moments] @ rgb / weights[moments].sum(1, keepdims=True).clip(1e-6)
    bars = "".join(
        f'<rect x="{100 * i / BARS:.2f}%" y="{(HEIGHT - height) / 2:.1f}" width="{70 / BARS:.2f}%" '
        f'height="{height:.1f}" rx="1.5" fill="rgb({",".join(str(round(c)) for c in colour)})"/>'
        for i, (height, colour) in enumerate(zip(3 + (HEIGHT - 6) * loudness, mixed, strict=True))
    )
    marks = "".join(
        f'<line x1="{100 * seconds / recording.seconds:.2f}%" x2="{100 * seconds / recording.seconds:.2f}%" y1="0" '
        f'y2="{HEIGHT}" stroke="currentColor" stroke-opacity="0.35" stroke-dasharray="3 3"/>'
        for seconds, _ in track.keyframes
        if seconds < recording.seconds
    )
    told = [(seconds, _name(mixture), _main(mixture)) for seconds, mixture in track.keyframes]
    changes = sorted(value for _, value in track.intensity)
    spread = "" if changes[0] == changes[-1] else f", intensity {changes[0]:.2f} to {changes[-1]:.2f}"
    chips = "".join(
        f'<li><span style="background:{palette[main]}"></span>{seconds:.1f} s&ensp;{escape(name)}</li>'
        for seconds, name, main in told
    )
    if spread:
        chips += f"<li>&#8213;&ensp;{spread[2:]}</li>"
    spoken = escape(", ".join(f"{name} from {seconds:.1f} s" for seconds, name, _ in told) + spread, quote=True)
    return (
        f'<div class="eat-waveform"><svg width="100%" height="{HEIGHT}" role="img" '
        f'aria-label="The voice, {recording.seconds:.1f} s: {spoken}">{bars}{marks}{_line(recording, track)}</svg>'
        f'<div class="eat-times"><span>0 s</span><span>{recording.seconds / 2:.1f} s</span>'
        f"<span>{recording.seconds:.1f} s</span></div><ul>{chips}</ul></div>"
    )


def _line(recording: Recording, track: EmotionTrack) -> str:
    """The intensity over time as an SVG's line, 0 at the bottom and 1.5 at the top; nothing where it is a number."""
    moments, values = zip(*track.intensity, strict=True)
    if len(moments) == 1:
        return ""
    times = np.linspace(0, recording.seconds, BARS + 1)
    heights = np.interp(times, moments, values) / MAX_INTENSITY
    places = zip(100 * times / recording.seconds, HEIGHT - 3 - (HEIGHT - 6) * heights, strict=True)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return (
        f'<svg x="0" y="0" width="100%" height="{HEIGHT}" viewBox="0 0 100 {HEIGHT}" preserveAspectRatio="none">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="2" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )


def keyframe_moments(recording: Recording, track: EmotionTrack, fade: float) -> list[tuple[int, str]]:
    """The frame where each keyframe has faded in, or the last before the next one begins, with a caption."""
    last = recording.num_frames - 1
    starts = [round(seconds * FPS) for seconds, _ in track.keyframes]
    ends = [*starts[1:], last + 1]
    moments = []
    for (seconds, mixture), start, end in zip(track.keyframes, starts, ends, strict=True):
        if start <= last:
            frame = min(start + round(fade * FPS), max(end - 1, start), last)
            moments.append((frame, f"{seconds:.1f} s {_name(mixture)}"))
    return moments


def _name(mixture: dict[str, float]) -> str:
    if len(mixture) == 1:
        return next(iter(mixture))
    return " + ".join(f"{weight:.0%} {name}" for name, weight in mixture.items() if weight)


def _main(mixture: dict[str, float]) -> str:
    return max(mixture, key=mixture.__getitem__)
