import av
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


@pytest.mark.parametrize("size", [(256, 256), (380, 300), (512, 392)], ids=["face", "odd tiles", "full picture"])
def test_it_cannot_be_seen_and_survives_encoding_twice(tmp_path, size):
    frames = talking(*size)
    assert min(psnr(frame, add_watermark(frame)) for frame in frames) > 45
    write_video(tmp_path / "out.mp4", frames)
    written = list(read_video(tmp_path / "out.mp4"))
    again = encoded(tmp_path / "again.mp4", written, crf=23)
    assert find_watermark(written).marked and find_watermark(again).marked
    assert find_watermark(written[:1]).marked  # a picture taken from it
    assert not find_watermark(again, key="another").marked


def test_without_a_mark_scores_are_those_of_chance():
    """As many keys as one likes, looked for in frames that know none of them: a standard normal distribution."""
    frames = talking(count=3)
    scores = np.array([find_watermark(frames, str(key)).score for key in range(400)])
    assert abs(scores.mean()) < 0.2 and 0.85 < scores.std() < 1.15 and np.abs(scores).max() < 4.5 < THRESHOLD
    assert not find_watermark(np.zeros((1, 64, 64, 3), np.uint8)).marked


def test_the_bound_on_false_alarms_holds():
    frames = talking(count=3)
    found = [find_watermark(frames, str(key)) for key in range(400)]
    for level in (1.0, 0.5, 0.1, 0.02):
        assert np.mean([evidence.false_alarm < level for evidence in found]) <= level


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
