"""Real videos into a corpus: every layout, what is left out and why, resuming, and the readers of the corpus.

The videos are made from a photograph, a few frames each.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import av
import cv2
import joblib
import numpy as np
import pytest
import scipy.io.wavfile
import torch
from conftest import KEYPOINTS, build_tiny_pipeline, voice

from eat_hf import keypoints as kp
from eat_hf.constants import SAMPLING_RATE
from eat_hf.errors import UserError
from eat_hf.evaluation.tracks import FaceTrack
from eat_hf.inputs.faces import DEFAULT_TEMPLATE
from eat_hf.media.videos import sound_delay, write_video
from training.data.dataset import Corpus
from training.data.faces import FaceBank
from training.data.frames import FrameBank
from training.data.motion import UNKNOWN, MotionData
from training.judges.train_sync import mouth_units
from training.real import prepare
from training.real.clips import Options, calmest_frame
from training.real.latents import Networks, latent_labels, load_networks
from training.real.layouts import MEAD_TEST, find_clips, hashed_split
from training.stage_1b_speech import read

BUNDLED = Path(__file__).resolve().parents[2] / "checkpoints_card" / "eat-demo"
FRAMES = 12


def remux(source: Path, target: Path, kinds=("video", "audio"), delay: float = 0.0) -> None:
    """Copy streams into a container of another kind, the sound `delay` seconds later."""
    target.parent.mkdir(parents=True, exist_ok=True)
    container = {".m4a": "mp4"}.get(target.suffix)
    with av.open(str(source)) as reader, av.open(str(target), "w", format=container) as writer:
        streams = {s.index: writer.add_stream_from_template(s) for s in reader.streams if s.type in kinds}
        for packet in reader.demux([reader.streams[index] for index in streams]):
            if packet.dts is not None:
                if packet.stream.type == "audio":
                    packet.pts, packet.dts = (round(t + delay / packet.time_base) for t in (packet.pts, packet.dts))
                packet.stream = streams[packet.stream_index]
                writer.mux(packet)


@pytest.fixture(scope="module")
def face(portrait) -> np.ndarray:
    """(300, 300, 3), one face of 86 pixels."""
    return portrait[:300, 80:380]


@pytest.fixture(scope="module")
def films(face, tmp_path_factory) -> Path:
    """talk.mp4 with sound, mute.mp4 without, both of a head that moves a little."""
    folder = tmp_path_factory.mktemp("films")
    frames = [np.roll(face, (n % 2, n % 3), (0, 1)) for n in range(FRAMES)]
    write_video(folder / "talk.mp4", frames, voice(FRAMES / 25)[None], SAMPLING_RATE, watermark=False)
    write_video(folder / "mute.mp4", frames, watermark=False)
    return folder


def place(film: Path, *targets: Path) -> None:
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(film, target)


def digests(folder: Path) -> dict[str, str]:
    files = [folder / "metadata.jsonl", folder / "rejected.jsonl", *sorted((folder / "clips").iterdir())]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rejections(folder: Path) -> dict[str, str]:
    lines = [json.loads(line) for line in (folder / "rejected.jsonl").read_text().splitlines()]
    return {line["file"]: line["reason"] for line in lines}


# Layouts -------------------------------------------------------------------------------------------------------------


def test_names_say_who_feels_what(tmp_path):
    """Every layout without opening a video."""
    for name in (
        "mead/M003/video/front/angry/level_2/001.mp4",
        "mead/W011/video/front/neutral/level_1/030.mp4",
        "mead/W011/video/left_30/neutral/level_1/030.mp4",
        "vox/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4",
        "vox/test/mp4/id00017/01dfn2spqyE/00001.mp4",
        "lrw/ABOUT/val/ABOUT_00001.mp4",
        "lrw/ABOUT/test/ABOUT_00001.mp4",
        "crema/VideoFlash/1001_DFA_ANG_XX.flv",
        "crema/VideoFlash/1002_IEO_SAD_HI.mp4",
        "crema/VideoFlash/1002_IEO_NEU_XX.mp4",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def found(folder, layout):
        clips, others = find_clips(tmp_path / folder, layout, 0)
        return {c.name: (c.identity, c.emotion, c.level, c.split, c.text) for c in clips}, others, clips

    mead, others, clips = found("mead", "mead")
    assert others == 1  # another camera
    assert mead == {
        "M003_angry_2_001": ("M003", "angry", 2, "test", ""),
        "W011_neutral_1_030": ("W011", "neutral", 0, mead["W011_neutral_1_030"][3], ""),
    }
    assert clips[0].sounds[0] == tmp_path / "mead/M003/audio/angry/level_2/001.m4a"
    assert find_clips(tmp_path / "mead/M003/video", "mead", 0)[0] == clips[:1]  # a part of a data set
    vox, _, clips = found("vox", "voxceleb2")
    assert vox["id00017_01dfn2spqyE_00001"] == ("id00017", None, None, "test", "")
    assert clips[0].sounds[1] == tmp_path / "vox/dev/aac/id00012/21Uxsk56VDQ/00001.m4a"
    lrw, _, _ = found("lrw", "lrw")
    assert lrw == {
        "test_ABOUT_00001": ("test_ABOUT_00001", None, None, "test", "about"),
        "validation_ABOUT_00001": ("validation_ABOUT_00001", None, None, "validation", "about"),
    }
    crema, _, _ = found("crema", "crema-d")
    assert [clip[:3] for clip in crema.values()] == [
        ("1001", "angry", None),
        ("1002", "neutral", 0),
        ("1002", "sad", 3),
    ]
    assert crema["1001_DFA_ANG_XX"][4] == "Don't forget a jacket."
    (tmp_path / "crema/1001_DFA_ANG_XX.mp4").touch()
    with pytest.raises(UserError, match="are both clip 1001_DFA_ANG_XX"):
        found("crema", "crema-d")


def test_people_are_split_by_hash_and_stay_there():
    people = [f"id{n:05d}" for n in range(2000)]
    splits = [hashed_split(person, 0) for person in people]
    assert 0.06 < splits.count("test") / 2000 < 0.1 and 0.06 < splits.count("validation") / 2000 < 0.1
    assert splits != [hashed_split(person, 1) for person in people]
    assert len(MEAD_TEST) == 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("file,emotion\na.mp4,happy\n", "entry 1: file and identity must be given"),
        ("file,identity,emotion\na.mp4,ann,merry\n", "entry 1: 'merry' is none of angry"),
        ("file,identity,level\na.mp4,ann,5\n", "a level is 1, 2 or 3"),
        ("file,identity,split\na.mp4,ann,dev\n", "a split is one of train"),
        ("file,identity,split\na.mp4,ann,train\nb.mp4,ann,test\n", "entry 2: ann is in train and in test"),
        ("file,identity\na.mp4,ann\n./a.mp4,ann\n", "are both clip a"),
        ("file,identity\n/etc/a.mp4,ann\n", "as it is seen from"),
        ("file,identity\n", "lists no video"),
    ],
)
def test_mistakes_in_a_table(rows, message, tmp_path):
    (tmp_path / "metadata.csv").write_text(rows)
    with pytest.raises(UserError, match=message):
        find_clips(tmp_path, "folder", 0)


def test_tables_as_json_lines(tmp_path):
    rows = [{"file": "x/a.mp4", "identity": 7, "emotion": "hap", "level": 3}, {"file": "b.mov", "identity": "bo"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    b, a = find_clips(tmp_path, "folder", 0)[0]
    assert (a.name, a.identity, a.emotion, a.level) == ("x_a", "7", "happy", 3)
    assert (b.emotion, b.level, b.split) == (None, None, hashed_split("bo", 0))
    (tmp_path / "metadata.jsonl").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        find_clips(tmp_path, "folder", 0)


# Videos --------------------------------------------------------------------------------------------------------------


def lay_out(layout: str, films: Path, folder: Path) -> None:
    """One or two clips as a data set has them."""
    talk, mute = films / "talk.mp4", films / "mute.mp4"
    if layout == "mead":
        for take in ("angry/level_3/001", "neutral/level_1/002"):
            place(mute, folder / f"M003/video/front/{take}.mp4")
            remux(talk, folder / f"M003/audio/{take}.m4a", ("audio",))
    elif layout == "voxceleb2":
        place(talk, folder / "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4")
    elif layout == "lrw":
        place(talk, folder / "ABOUT/train/ABOUT_00001.mp4")
    elif layout == "crema-d":
        remux(talk, folder / "VideoFlash/1001_DFA_ANG_XX.flv")
    else:
        place(mute, folder / "film.mp4")
        scipy.io.wavfile.write(folder / "film.wav", 44100, voice(FRAMES / 25, 44100))
        (folder / "metadata.csv").write_text("file,identity\nfilm.mp4,ann\n")


@pytest.mark.parametrize("layout", ["mead", "voxceleb2", "lrw", "crema-d", "folder"])
def test_every_layout_becomes_a_corpus(layout, films, tmp_path):
    lay_out(layout, films, tmp_path / "in")
    prepare.prepare_corpus(Options(tmp_path / "in", layout, tmp_path / "out"), progress=False)
    corpus = Corpus(tmp_path / "out")
    assert len(corpus) == (2 if layout == "mead" else 1) and rejections(tmp_path / "out") == {}
    for clip in corpus.clips(kind="speech", rendered=True):
        assert clip.length == FRAMES and clip.frames().shape == (FRAMES, 256, 256, 3)
        assert len(clip.waveform()) == FRAMES * 640 and np.abs(clip.waveform()).max() > 0.05
        labels = clip.labels("landmarks", "face_box")
        assert labels["landmarks"].shape == (FRAMES, 68, 3) and np.isnan(labels["landmarks"][..., 2]).all()
        points = (labels["landmarks"][..., :2] + 1) * 128 - 0.5
        box = labels["face_box"]
        assert (points >= box[:, None, :2] - 1e-3).all() and (points <= box[:, None, 2:] + 1e-3).all()
        # the official crop: landmarks fill 1 / 2.1 of the width, the face is in the middle
        assert np.ptp(points[0, :, 0]) == pytest.approx(256 / 2.1, rel=0.1)
        assert points[0, :, 0].mean() == pytest.approx(128, abs=12)
        assert clip.portrait().shape == (256, 256, 3)
    if layout == "mead":
        angry, neutral = corpus.clips()
        assert (angry.emotion, angry.level, neutral.level, angry.split) == ("angry", 3, 0, "test")
        assert angry.metadata["portrait_of"] == neutral.name == "M003_neutral_1_002"
        assert (angry.portrait() == neutral.portrait()).all()
    else:
        (clip,) = corpus.clips()
        assert clip.metadata["portrait_of"] == clip.name


def test_sound_that_starts_later_stays_later(films, tmp_path):
    remux(films / "talk.mp4", tmp_path / "late.mkv", delay=0.2)
    delay = sound_delay(tmp_path / "late.mkv")
    assert 0.1 < delay <= 0.2
    (tmp_path / "metadata.csv").write_text("file,identity\nlate.mkv,ann\n")
    prepare.prepare_corpus(Options(tmp_path, "folder", tmp_path.with_name(tmp_path.name + "_out")), progress=False)
    (clip,) = Corpus(tmp_path.with_name(tmp_path.name + "_out")).clips()
    silent = round(delay * SAMPLING_RATE)
    assert not clip.waveform()[:silent].any() and np.abs(clip.waveform()[silent + 1100 :]).max() > 0.05


def test_videos_that_are_left_out_and_why(face, films, tmp_path):
    """Every reason, and one video that is fine."""
    folder, sound = tmp_path / "in", voice(FRAMES / 25)[None]
    folder.mkdir()
    films_of = {
        "empty": [np.full((240, 320, 3), 90, np.uint8)] * FRAMES,
        "two": [np.hstack([face, face])] * FRAMES,
        "small": [cv2.copyMakeBorder(cv2.resize(face, (140, 140)), 0, 120, 0, 180, cv2.BORDER_CONSTANT)] * FRAMES,
        "brief": [face] * 7,
        "leaving": [np.roll(face, -8 * n, 1) for n in range(FRAMES)],
        "lost": [face] * 6 + [np.full_like(face, 90)] * 6,
    }
    for name, frames in films_of.items():
        write_video(folder / f"{name}.mp4", frames, sound, SAMPLING_RATE, watermark=False)
    write_video(folder / "silent.mp4", [face] * FRAMES, 0 * sound, SAMPLING_RATE, watermark=False)
    place(films / "mute.mp4", folder / "mute.mp4")
    place(films / "talk.mp4", folder / "fine.mp4")
    (folder / "text.mp4").write_text("not a film")
    whole = (films / "talk.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    names = sorted([*(path.stem for path in folder.iterdir()), "absent"])
    (folder / "metadata.csv").write_text("file,identity\n" + "".join(f"{name}.mp4,{name}\n" for name in names))

    options = Options(folder, "folder", tmp_path / "out")
    prepare.prepare_corpus(options, progress=False)
    reasons = rejections(tmp_path / "out")
    assert reasons.pop("cut.mp4") in ("damaged", "unreadable", "too short")
    assert reasons == {
        "absent.mp4": "unreadable",
        "brief.mp4": "too short",
        "empty.mp4": "no face",
        "leaving.mp4": "face leaves the crop",
        "lost.mp4": "face lost",
        "mute.mp4": "no sound",
        "silent.mp4": "no sound",
        "small.mp4": "face too small",
        "text.mp4": "unreadable",
        "two.mp4": "several faces",
    }
    text = (tmp_path / "out" / "rejected.jsonl").read_text()
    assert str(tmp_path) not in text and "7 frames with sound; at least 10 are needed" in text
    assert [clip.name for clip in Corpus(tmp_path / "out").clips()] == ["fine"]


@pytest.fixture(scope="module")
def mead(films, tiny_model, tmp_path_factory) -> Options:
    """A corpus of two emotional and two neutral clips of one person and a rejected video, by the tiny model."""
    folder = tmp_path_factory.mktemp("mead")
    for number, take in enumerate(
        ("angry/level_3/001", "happy/level_1/001", "neutral/level_1/001", "neutral/level_1/002")
    ):
        place(films / ("talk.mp4" if number else "mute.mp4"), folder / f"in/M003/video/front/{take}.mp4")
    remux(films / "talk.mp4", folder / "in/M003/audio/angry/level_3/001.m4a", ("audio",))
    place(films / "mute.mp4", folder / "in/M003/video/front/sad/level_1/001.mp4")
    options = Options(folder / "in", "mead", folder / "out", model=str(tiny_model))
    prepare.prepare_corpus(options, progress=False)
    return options


def test_an_interrupted_run_is_completed_to_the_same_corpus(mead, monkeypatch):
    before, clips = digests(mead.output), mead.output / "clips"
    assert rejections(mead.output) == {"M003/video/front/sad/level_1/001.mp4": "no sound"}
    kept = (clips / "M003_angry_3_001.mp4").stat().st_mtime_ns
    (clips / "M003_happy_1_001.npz").unlink()
    (clips / "M003_neutral_1_002.png").unlink()
    (clips / "M003_happy_1_001.part.npz").write_bytes(b"half")
    with (mead.output / "rejected.jsonl").open("a") as log:
        log.write('{"file": "M003/vid')
    tried = []
    run = prepare.prepare_in_worker
    monkeypatch.setattr(
        prepare, "prepare_in_worker", lambda clip, options: tried.append(clip.name) or run(clip, options)
    )
    prepare.prepare_corpus(mead, progress=False)
    assert tried == ["M003_happy_1_001", "M003_neutral_1_002"]
    assert digests(mead.output) == before
    assert (clips / "M003_angry_3_001.mp4").stat().st_mtime_ns == kept


def test_the_number_of_workers_changes_nothing(mead, tmp_path):
    for workers in (1, 2):  # without a model, for workers take seconds to load torch
        prepare.prepare_corpus(Options(mead.input, "mead", tmp_path / str(workers)), workers, progress=False)
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    assert len(Corpus(tmp_path / "2")) == 4


def test_a_folder_of_another_corpus_is_refused(mead, tmp_path):
    for change, message in (
        ({"seed": 4}, "was made with seed 0, not 4"),
        ({"model": None}, "was made with model .* not None"),
        ({"layout": "crema-d"}, "None of the 5 videos .* lies as in crema-d, 1001_DFA_ANG_XX.flv"),
    ):
        with pytest.raises(UserError, match=message):
            prepare.prepare_corpus(replace(mead, **change), progress=False)
    (tmp_path / "corpus.json").write_text('{"identities": 3}')
    with pytest.raises(UserError, match="is a rendered corpus"):
        prepare.prepare_corpus(replace(mead, output=tmp_path), progress=False)


# Labels and readers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["canonical", "posed"])
@pytest.mark.parametrize("frame", ["camera", "head"])
def test_measured_labels_obey_eq_1(space, frame):
    pipeline = build_tiny_pipeline(keypoint_space=space)
    detector, estimator = pipeline.keypoint_detector, pipeline.motion_estimator
    frames = np.random.default_rng(0).integers(0, 256, (3, 256, 256, 3), np.uint8)
    networks = Networks(detector, estimator, frame)
    labels = {name: torch.from_numpy(label) for name, label in latent_labels(networks, frames).items()}
    assert labels["canonical"].shape == (KEYPOINTS, 3) and labels["expression"].shape == (3, KEYPOINTS, 3)
    rotation = kp.rotation_from_degrees(labels["yaw"], labels["pitch"], labels["roll"])
    pose = rotation, labels["translation"]
    posed = kp.compose_keypoints(labels["canonical"], *pose, labels["expression"].flatten(1), "head")
    torch.testing.assert_close(posed, labels["keypoints"], atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        found, motion = detector(pixels).keypoints, estimator(pixels)
    if space == "posed":
        torch.testing.assert_close(labels["keypoints"], found)
    else:
        torch.testing.assert_close(labels["canonical"], found.mean(0))
        own = kp.compose_keypoints(labels["canonical"], *pose, motion.expression, frame)
        torch.testing.assert_close(labels["keypoints"], own, atol=1e-5, rtol=1e-5)


def test_training_reads_the_corpus(mead, tiny_pipeline):
    folder = str(mead.output)
    frames = FrameBank.load(folder, "test")
    assert len(frames.pictures) == 4 * FRAMES and frames.keypoint_names[:2] == ["keypoint_00", "keypoint_01"]
    assert frames.labels["keypoints"].shape == (4 * FRAMES, KEYPOINTS, 3)
    assert not frames.calm[: 2 * FRAMES].any()  # angry and happy
    source, driving = frames.draw_pairs(np.random.default_rng(0), 5, calm_share=0.6)
    assert (frames.clip[source] == frames.clip[driving]).all() and set(frames.identity) == {"M003"}

    detector, encoder = tiny_pipeline.keypoint_detector, tiny_pipeline.speech_encoder
    motion = MotionData(folder, "test", encoder, detector, 16, 1.0)
    assert len(motion.clips) == 4 and list(motion.maps) == ["M003"]
    batch = motion.draw(np.random.default_rng(0), 2, 3, [0, 1, 2, 3])
    assert batch["expression"].shape == (2, 3, 3 * KEYPOINTS) and torch.isfinite(batch["expression"]).all()

    with joblib.parallel_config(backend="sequential"):
        faces = FaceBank.load(folder, "tracked", 48, "test")
    assert len(faces.clips) == 4 and faces.of(3).shape == (FRAMES, 48, 48, 3)


def test_what_is_missing_is_said_in_one_sentence(mead, films, tiny_pipeline, tmp_path):
    (clip, *_) = Corpus(mead.output).clips()
    with pytest.raises(UserError, match="no label 'phonemes': only the synthetic corpus knows"):
        read(clip, tiny_pipeline.speech_encoder, 0, 0)
    with pytest.raises(UserError, match="no label 'arkit': .* --unit_weight 0"):
        mouth_units(clip)
    with pytest.raises(UserError, match="no clips with pictures in its split validation"):
        FrameBank.load(str(mead.output), "validation")

    lay_out("lrw", films, tmp_path / "in")
    prepare.prepare_corpus(Options(tmp_path / "in", "lrw", tmp_path / "out"), progress=False)
    assert set(prepare.WITHOUT_MODEL) < set(Corpus(tmp_path / "out").info["missing"])
    for load in (
        lambda folder: FrameBank.load(folder, "train"),
        lambda folder: MotionData(
            folder, "train", tiny_pipeline.speech_encoder, tiny_pipeline.keypoint_detector, 16, 1.0
        ),
    ):
        with pytest.raises(UserError, match="no label 'yaw': prepare the videos with a --model"):
            load(str(tmp_path / "out"))


def test_clips_of_unknown_emotion_teach_talking_but_no_emotion(films, tiny_pipeline, tiny_model, tmp_path):
    lay_out("lrw", films, tmp_path / "in")
    prepare.prepare_corpus(Options(tmp_path / "in", "lrw", tmp_path / "out", model=str(tiny_model)), progress=False)
    motion = MotionData(
        str(tmp_path / "out"), "train", tiny_pipeline.speech_encoder, tiny_pipeline.keypoint_detector, 16, 1.0
    )
    (clip,) = motion.clips
    assert (clip.emotion, clip.level, clip.teaches_emotion(1)) == (UNKNOWN, None, False)
    assert replace(clip, emotion=4).teaches_emotion(3)  # happy, nobody said how much
    assert not replace(clip, emotion=4, level=1).teaches_emotion(2)
    assert replace(clip, emotion=5, level=0).teaches_emotion(2)  # neutral


def test_a_portrait_is_calm():
    face = DEFAULT_TEMPLATE.copy()
    talking, blinking, staring = face.copy(), face.copy(), face.copy()
    talking[[65, 66, 67], 1] += 15
    for points, opening in ((blinking, 0.1), (staring, 2)):
        for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
            middle = points[[upper, lower], 1].mean()
            points[[upper, lower], 1] = middle + opening * (points[[upper, lower], 1] - middle)
    faces = np.stack([talking, blinking, staring, face, talking])
    missed = np.full((1, 68, 2), np.nan)
    assert calmest_frame(FaceTrack(np.zeros((6, 4)), np.concatenate([missed, faces]))) == 4


# Command line --------------------------------------------------------------------------------------------------------


def test_command_line(films, tmp_path, capsys):
    """With the bundled model, whose keypoints have names."""
    place(films / "talk.mp4", tmp_path / "in/dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", tmp_path / "in/other.mp4")
    arguments = ["--input", str(tmp_path / "in"), "--layout", "voxceleb2", "--output", str(tmp_path / "out")]
    prepare.main([*arguments, "--model", str(BUNDLED), "--workers", "1"])
    out = capsys.readouterr().out
    assert "1 clips made, 0 already there" in out and "x real time" in out and "1 other videos" in out
    corpus = Corpus(tmp_path / "out")
    assert corpus.info["keypoint_names"].index("nose_tip") == 4 and "arkit" in corpus.info["missing"]
    assert corpus.info["command"].startswith("python -m training.real.prepare --input DIR --layout voxceleb2")
    labels = corpus.clips()[0].labels()
    nose = labels["keypoints"][:, corpus.info["keypoint_names"].index("nose_tip")]
    # what the small network takes for the tip of the nose is near dlib's
    assert np.abs(nose[:, :2] - labels["landmarks"][:, 30, :2]).mean() < 0.1
    assert np.abs(labels["yaw"]).max() < 30


def test_mistakes_on_the_command_line(films, tmp_path):
    place(films / "talk.mp4", tmp_path / "in/film.mp4")
    for arguments, message in (
        (["--input", "nowhere", "--layout", "lrw", "--output", "out"], "There is no folder"),
        (["--input", "in", "--layout", "lrw", "--output", "out"], "lies as in lrw, ABOUT/train/ABOUT_00001.mp4"),
        (["--input", "in", "--layout", "folder", "--output", "out"], "needs metadata.csv or metadata.jsonl"),
        (["--input", "in", "--layout", "lrw", "--output", "in/out"], "among the videos it is made of"),
        (["--input", "in", "--layout", "lrw", "--output", "out", "--workers", "0"], "--workers must be 1 or more"),
    ):
        paths = [str(tmp_path / part) if part.split("/")[0] in ("in", "out", "nowhere") else part for part in arguments]
        with pytest.raises(UserError, match=message):
            prepare.main(paths)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="The model .* cannot be loaded"):
        load_networks(str(tmp_path / "in"), "cpu")
    with pytest.raises(UserError, match="invalid choice: 'ravdess'"):
        prepare.main(["--input", "in", "--layout", "ravdess", "--output", "out"])
