"""A corpus in a few large files is the same corpus."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from eat_hf.errors import UserError
from training.data import pack
from training.data.dataset import Corpus
from training.data.files import write_labels, write_picture, write_video, write_wav


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three clips: two with pictures and sound, one of labels and sound alone."""
    folder, rng, lines = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0), []
    (folder / "clips").mkdir()
    for number in range(3):
        name, rendered = f"clips/id000{number}_speech_0000", number < 2
        metadata = {"file_name": f"{name}.mp4" if rendered else None, "wav": f"{name}.wav", "labels": f"{name}.npz",
                    "portrait": f"{name}.png" if rendered else None, "kind": "speech", "identity": number,
                    "split": "train", "emotion": "happy", "level": 1, "frames": 4}  # fmt: skip
        if rendered:
            write_video(folder / f"{name}.mp4", rng.integers(0, 255, (4, 64, 64, 3), np.uint8), 20)
            write_picture(folder / f"{name}.png", rng.integers(0, 255, (64, 64, 3), np.uint8))
        write_wav(folder / f"{name}.wav", rng.uniform(-0.5, 0.5, 2560).astype(np.float32))
        write_labels(folder / f"{name}.npz", {"yaw": rng.normal(size=4)}, metadata)
        if number == 0:  # corpora are often gathered from others by links
            for ending, link in ((".wav", Path.symlink_to), (".npz", Path.hardlink_to)):
                place = folder / f"{name}{ending}"
                link(place, place.rename(folder / f"elsewhere{ending}"))
        lines.append(json.dumps(metadata) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines))
    (folder / "corpus.json").write_text('{"seed": 0}')
    return folder


@pytest.mark.parametrize("most", [1, 10**9])
def test_a_packed_corpus_is_the_same(corpus, tmp_path, most):
    whole = Corpus(corpus)
    assert pack.pack(whole, tmp_path, most) == (3 if most == 1 else 1)
    packed = Corpus(tmp_path)
    assert packed.info == whole.info and len(packed) == 3 and len(packed.clips(rendered=True)) == 2
    for one, other in zip(packed.clips(), whole.clips(), strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.labels()["yaw"], other.labels()["yaw"])
        np.testing.assert_array_equal(one.waveform(), other.waveform())
        if one.rendered:
            np.testing.assert_array_equal(one.frames(), other.frames())
            np.testing.assert_array_equal(one.portrait(), other.portrait())
    # as WebDataset wants it: a clip's files side by side under one name
    names = [name for shard in sorted(tmp_path.glob("*.tar")) for name in tarfile.open(shard).getnames()]
    assert [Path(name).stem for name in names] == sorted(Path(name).stem for name in names) and len(names) == 10


def test_a_corpus_is_not_packed_into_itself(corpus):
    with pytest.raises(UserError, match="a new folder"):
        pack.main(["--corpus", str(corpus), "--output", str(corpus)])
