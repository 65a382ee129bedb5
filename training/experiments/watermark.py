"""What the invisible mark survives, how often it is seen where there is none, and what it costs.

    python -m training.experiments.watermark --videos clips --pictures photographs --sides 256 512 1024 1920

`--videos` is a folder of videos without the mark (`eat-hf generate --no-watermark`, a corpus); over the pictures of
`--pictures` a camera moves. Each is brought to each of the sizes, marked, written, attacked and looked at; then pieces
of all of them, cut, scaled, mirrored and encoded at random, and textures, noise and gradients are looked at unmarked.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from eat_hf.errors import UserError
from eat_hf.media.pictures import read_image
from eat_hf.media.videos import VideoWriter, read_video
from eat_hf.media.watermark import THRESHOLD, Watermark, find_watermark

from ..loop.command_line import parse_options, run_script

Frames = list[np.ndarray]


@dataclass
class WatermarkOptions:
    """Options."""

    videos: str = field(default="", metadata={"help": "Folder of unmarked videos (.mp4)."})
    pictures: str = field(default="", metadata={"help": "Folder of pictures (.png, .jpg)."})
    clips: int = field(default=50, metadata={"help": "Videos, and pictures, at most."})
    frames: int = field(default=25, metadata={"help": "Of each, at most."})
    sides: list[int] = field(default_factory=lambda: [256], metadata={"help": "Longer side of what is marked, pixels."})
    attacked: int = field(default=5, metadata={"help": "Clips of each size that are attacked."})
    unmarked: int = field(default=1000, metadata={"help": "Unmarked clips to look at."})
    seed: int = field(default=0, metadata={"help": "Of what is drawn at random."})


def moving(picture: np.ndarray, count: int) -> Frames:
    """A camera that pans over a picture and comes a little closer."""
    height, width = picture.shape[:2]
    frames = []
    for part in np.linspace(0, 1, count):
        zoom = 1.05 + 0.05 * part
        shift = (1 - zoom) * part * np.array([width, height])
        matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        frames.append(cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC))
    return frames


def brought_to(frames: Frames, side: int) -> Frames:
    """So many pixels on the longer side, an even number on both."""
    factor = side / max(frames[0].shape[:2])
    height, width = (2 * round(pixels * factor / 2) for pixels in frames[0].shape[:2])
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return [cv2.resize(frame, (width, height), interpolation=way) for frame in frames]


def scaled(frames: Frames, factor: float) -> Frames:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return [cv2.resize(frame, None, fx=factor, fy=factor, interpolation=way) for frame in frames]


def cropped(frames: Frames, shares: np.ndarray) -> Frames:
    """Without shares (4,) of the picture: above, below, left and right."""
    height, width = frames[0].shape[:2]
    above, below, left, right = np.round(shares * (height, height, width, width)).astype(int)
    return [frame[above : height - below, left : width - right] for frame in frames]


def mirrored(frames: Frames) -> Frames:
    return [frame[:, ::-1] for frame in frames]


def encoded(frames: Frames, crf: int, mark: bool = False) -> Frames:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with VideoWriter(path, crf=crf, watermark=mark) as video:
            video.write(frames)
        return list(read_video(path))


def attacks(generator: np.random.Generator) -> dict[str, Callable[[Frames], Frames]]:
    """By name; how much is cropped is drawn."""
    shares = generator.uniform(0, 0.1, 4)
    found: dict[str, Callable[[Frames], Frames]] = {"none": list, "mirrored": mirrored}
    found |= {f"scaled to {factor:.0%}": lambda frames, f=factor: scaled(frames, f) for factor in (0.5, 0.7, 1.2, 1.5)}
    found["cropped"] = lambda frames: cropped(frames, shares)
    found["cropped by 10 % on all sides"] = lambda frames: cropped(frames, np.full(4, 0.1))
    found |= {f"crf {crf}": lambda frames, c=crf: encoded(frames, c) for crf in (18, 23, 28, 32)}
    found["mirrored, cropped, crf 28"] = lambda frames: encoded(mirrored(cropped(frames, shares)), 28)
    found["cropped, scaled to 60 %"] = lambda frames: scaled(cropped(frames, shares), 0.6)
    found["cropped, crf 28"] = lambda frames: encoded(cropped(frames, shares), 28)
    found |= {f"scaled to 50 %, crf {crf}": lambda f, c=crf: encoded(scaled(f, 0.5), c) for crf in (23, 28, 32)}
    return found


def unmarked_clip(clips: list[Frames], index: int, generator: np.random.Generator) -> Frames:
    """A piece of a clip, or a texture, noise or a gradient; half of them as H.264 leaves them."""
    frames = _unmarked_frames(clips, index, generator)
    if generator.random() < 0.5:
        even = tuple(2 * (side // 2) for side in frames[0].shape[:2])
        frames = encoded([frame[: even[0], : even[1]] for frame in frames], int(generator.integers(18, 33)))
    return frames


def _unmarked_frames(clips: list[Frames], index: int, generator: np.random.Generator) -> Frames:
    kind = index % 4
    if kind < 2:
        clip = clips[generator.integers(len(clips))]
        piece = scaled(cropped(clip, generator.uniform(0, 0.3, 4)), generator.uniform(0.5, 1.5))
        return mirrored(piece[:5]) if generator.random() < 0.5 else piece[:5]
    size = (256, 256, 3)
    if kind == 2 and index % 8 == 2:
        return [generator.integers(0, 256, size, np.uint8) for _ in range(3)]
    if kind == 2:
        coarse = generator.integers(0, 256, (*generator.integers(4, 256, 2), 3), np.uint8)
        return [cv2.resize(coarse, size[:2], interpolation=cv2.INTER_CUBIC)]
    slopes = generator.uniform(0, 127, (2, 3))
    down, along = np.linspace(0, 1, 256)[:, None, None], np.linspace(0, 1, 256)[None, :, None]
    return [np.broadcast_to(down * slopes[0] + along * slopes[1], size).astype(np.uint8)]


def psnr(a: Frames, b: Frames) -> float:
    """Of the worst frame, dB."""
    error = max(np.mean((x.astype(np.float32) - y) ** 2) for x, y in zip(a, b, strict=True))
    return float(10 * np.log10(255**2 / error))


def milliseconds(size: int) -> float:
    """To mark a frame, the median of 300 after the first."""
    frame = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    mark, taken = Watermark(), []
    for _ in range(301):
        start = time.perf_counter()
        mark(frame)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken[1:])) * 1e3


def read_clips(options: WatermarkOptions) -> list[Frames]:
    """Raises UserError: there are none."""
    folders = [Path(options.videos or "."), Path(options.pictures or ".")]
    videos = sorted(folders[0].glob("*.mp4"))[: options.clips] if options.videos else []
    pictures = sorted(path for ending in ("png", "jpg") for path in folders[1].glob(f"*.{ending}"))
    clips = [list(read_video(path, options.frames)) for path in videos]
    if options.pictures:
        clips += [moving(read_image(path), options.frames) for path in pictures[: options.clips]]
    if not clips:
        raise UserError("Name a folder of videos or of pictures; `eat-hf generate --no-watermark` makes videos.")
    return clips


def main(argv: list[str] | None = None) -> None:
    options, _ = parse_options(WatermarkOptions, "watermark", sys.argv[1:] if argv is None else argv)
    clips = read_clips(options)
    generator = np.random.default_rng(options.seed)
    table = Table("side", "attack", "found", "lowest score")
    quality = []
    for side in options.sides:
        scores: dict[str, list[float]] = {}
        for number in generator.permutation(len(clips))[: options.attacked]:
            clip, mark = brought_to(clips[number], side), Watermark()
            quality.append(psnr(clip, [mark(frame) for frame in clip]))
            written = encoded(clip, 18, mark=True)
            for name, attack in attacks(generator).items():
                scores.setdefault(name, []).append(find_watermark(attack(written)).score)
        for name, each in scores.items():
            found = f"{sum(score > THRESHOLD for score in each)} of {len(each)}"
            table.add_row(str(side), name, found, f"{min(each):.1f}")
    Console().print(table)
    chance = [find_watermark(unmarked_clip(clips, i, generator)).score for i in range(options.unmarked)]
    alarms = sum(score > THRESHOLD for score in chance)
    print(f"{alarms} of {len(chance)} unmarked clips called marked; highest score {max(chance, default=0):.1f}")
    print(f"a score above {THRESHOLD:.1f} is a mark; marked frames: {min(quality, default=np.inf):.1f} dB or more")
    print(f"marking a frame: {milliseconds(256):.2f} ms at 256, {milliseconds(512):.2f} ms at 512")


if __name__ == "__main__":
    run_script(main)
