import av
import cv2
import numpy as np
import pytest
import skimage.data

from eat_hf.cli import main as cli
from eat_hf.media.videos import VideoWriter, read_video, write_video
from eat_hf.media.watermark import THRESHOLD, add_watermark, find_watermark


def talking(height: int = 256, width: int = 256, count: int = 12) -> np.ndarray:
    """A photograph that moves a little, as a talking head does."""
    picture = skimage.data.astronaut()
    return np.stack([np.roll(picture, t // 3, 1)[:height, 120 : 120 + width] for t in range(count)])


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def encoded(path, frames, crf: int) -> list[np.ndarray]:
    """As a site for videos does it: decoded and encoded again by somebody else."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode(None))
    return list(read_video(path))


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> list[np.ndarray]:
    path = tmp_path_factory.mktemp("marked") / "out.mp4"
    write_video(path, talking(count=10))
    return list(read_video(path))


def cropped(frames, left: float, top: float, right: float, bottom: float) -> list[np.ndarray]:
    """Shares of the picture are cut off."""
    height, width = frames[0].shape[:2]
    rows = slice(round(top * height), height - round(bottom * height))
    return [frame[rows, round(left * width) : width - round(right * width)] for frame in frames]


def scaled(frames, factor: float) -> list[np.ndarray]:
    return [cv2.resize(frame, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) for frame in frames]


def mirrored(frames) -> list[np.ndarray]:
    return [frame[:, ::-1] for frame in frames]


@pytest.mark.parametrize("size", [(256, 256), (380, 300), (512, 392), (360, 640)])
def test_it_cannot_be_seen_and_survives_encoding_twice(tmp_path, size):
    frames = [cv2.resize(frame, size[::-1]) for frame in talking(count=10)]
    assert min(psnr(frame, add_watermark(frame)) for frame in frames) >= 42
    write_video(tmp_path / "out.mp4", frames)
    written = list(read_video(tmp_path / "out.mp4"))
    again = encoded(tmp_path / "again.mp4", written, crf=23)
    assert find_watermark(written).marked and find_watermark(again).marked
    assert find_watermark(written[:1]).marked  # a picture taken from it
    assert not find_watermark(again, key="another").marked


@pytest.mark.parametrize(
    "attack",
    [
        lambda frames: scaled(frames, 0.5),
        lambda frames: scaled(frames, 0.83),
        lambda frames: scaled(frames, 1.5),
        lambda frames: [frame[4:, 4:] for frame in frames],
        lambda frames: cropped(frames, 0.1, 0, 0, 0),
        lambda frames: cropped(frames, 0.034, 0.077, 0.055, 0.015),
        lambda frames: cropped(frames, 0.1, 0.1, 0.1, 0.1),
        mirrored,
        lambda frames: mirrored(cropped(frames, 0.07, 0.02, 0, 0.1)),
        lambda frames: scaled(cropped(frames, 0.02, 0.06, 0.1, 0), 0.6),
    ],
)
def test_it_survives_scaling_cropping_and_mirroring(written, attack):
    assert find_watermark(attack(written)).marked


def test_it_is_weaker_where_a_picture_is_smooth():
    frame = np.full((256, 256, 3), 128, np.uint8)
    frame[:, 128:] = np.random.default_rng(0).integers(60, 200, (32, 16, 1)).repeat(8, 0).repeat(8, 1)
    change = np.abs(add_watermark(frame).astype(int) - frame).mean((0, 2))
    assert change[:112].mean() < 0.7 * change[144:].mean()


def unmarked(count: int):
    """Photographs, textures, noise, gradients and flat pictures, cut and scaled at random."""
    generator = np.random.default_rng(0)
    pictures = [skimage.data.astronaut(), skimage.data.cat(), skimage.data.coffee(), skimage.data.brick()]
    for index in range(count):
        if index % 5 < 3:
            whole = pictures[index % len(pictures)]
            whole = whole if whole.ndim == 3 else whole[..., None].repeat(3, 2)
            top, left = (int(generator.integers(0, size // 3)) for size in whole.shape[:2])
            yield cv2.resize(whole[top : top + 200, left : left + 200], (256, 256))
        elif index % 5 == 3:
            yield generator.integers(0, 256, (200, 256, 3), np.uint8)
        else:
            slope = np.linspace(0, generator.uniform(0, 255), 256)[None, :, None]
            yield np.broadcast_to(slope, (256, 256, 3)).astype(np.uint8)


def test_no_false_alarm():
    assert not any(find_watermark([frame]).marked for frame in unmarked(30))
    assert not find_watermark(np.zeros((1, 64, 64, 3), np.uint8)).marked


def test_the_bound_on_false_alarms_holds():
    """As many keys as one likes, looked for in frames that know none of them."""
    frames = talking(count=2)
    found = [find_watermark(frames, str(key)) for key in range(20)]
    assert max(evidence.score for evidence in found) < THRESHOLD
    assert all(evidence.false_alarm > 1e-3 for evidence in found)


def test_writing_without_it(tmp_path):
    frames = talking()
    with VideoWriter(tmp_path / "plain.mp4", watermark=False) as video:
        video.write(frames)
    assert not find_watermark(read_video(tmp_path / "plain.mp4")).marked
    with av.open(str(tmp_path / "plain.mp4")) as container:
        assert "AI-generated" in container.metadata["comment"]


def test_the_command(tmp_path, capsys):
    write_video(tmp_path / "marked.mp4", talking())
    write_video(tmp_path / "plain.mp4", talking(), watermark=False)
    for name, status, words in (("marked", 0, "marked: score"), ("plain", 1, "not marked"), ("none", 2, "not exist")):
        found = 0
        try:
            cli.main(["detect-watermark", str(tmp_path / f"{name}.mp4")])
        except SystemExit as exit:
            found = exit.code
        told = capsys.readouterr()
        assert found == status and words in told.out + told.err
