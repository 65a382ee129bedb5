"""The evaluation suite on real files: folders of short videos of a real face, tiny judges, worker processes."""

import json
import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
import scipy.io.wavfile
import torch
from conftest import voice

from eat_hf import EmotionFAN, SyncNet
from eat_hf.cli import main as cli
from eat_hf.errors import UserError
from eat_hf.evaluation import evaluate
from eat_hf.evaluation.clips import emotion_in, pair_clips, read_labels
from eat_hf.evaluation.tracks import (
    MEAN_FACE,
    MEAN_FACE_POINTS,
    FaceTrack,
    face_chips,
    mean_face_crops,
    mouth_aligned_crops,
    track_faces,
    tracked_crops,
)
from eat_hf.media.videos import write_video

FRAMES = 8


@pytest.fixture(scope="module")
def face(portrait):
    """(8, 192, 192, 3): the astronaut's face, moving a little."""
    head = portrait[20:240, 110:330]
    moves = [np.float32([[1, 0, 2 * n], [0, 1, n]]) for n in range(FRAMES)]
    frames = [cv2.warpAffine(head, m, head.shape[1::-1], borderMode=cv2.BORDER_REPLICATE) for m in moves]
    return np.stack([cv2.resize(frame, (192, 192), interpolation=cv2.INTER_AREA) for frame in frames])


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Folders of a tiny SyncNet and a tiny EmotionFAN, of random weights."""
    folder = tmp_path_factory.mktemp("judges")
    torch.manual_seed(0)
    SyncNet(64, (4, 4, 4, 4, 4, 8), (4, 4, 4, 4, 4, 8), hidden=8, embedding=8).save_pretrained(folder / "syncnet")
    EmotionFAN(base_width=4, layers=(1, 1, 1, 1), image_size=64).save_pretrained(folder / "emotion")
    return {"syncnet": str(folder / "syncnet"), "emotion_judge": str(folder / "emotion")}


@pytest.fixture(scope="module")
def folders(face, tmp_path_factory):
    """A folder of generated clips, good, worse and unusable, and one of real ones."""
    root = tmp_path_factory.mktemp("clips")
    generated, reference = root / "mine", root / "real"
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in face])
    nobody = np.random.default_rng(0).integers(0, 255, face.shape, np.uint8)
    sound = voice(FRAMES / 25)[None]
    clips = {
        "M003_hap_1_001": (face, face),
        "M003_sad_1_002": (blurred, face),
        "M003_ang_1_003": (nobody, face),
        "M003_fea_1_004": (np.concatenate([face, face]), face),
        "M003_sur_1_005": (face[:3], face),
        "M003_dis_1_006": (face, None),
        "M003_neu_1_007": (None, face),
        "sub/M003_con_1_008": (face, face),
    }
    for folder in (generated, reference):
        (folder / "sub").mkdir(parents=True)
    for name, videos in clips.items():
        for folder, frames in zip((generated, reference), videos, strict=True):
            if frames is not None:
                write_video(folder / f"{name}.mp4", frames, sound, 16000)
    # of the good clips, bytes for bytes: an encoder would make even them differ
    for name in ("M003_hap_1_001", "sub/M003_con_1_008"):
        (generated / f"{name}.mp4").write_bytes((reference / f"{name}.mp4").read_bytes())
    (generated / "broken.mp4").write_bytes(b"not a video")
    (reference / "broken.mp4").write_bytes((reference / "M003_hap_1_001.mp4").read_bytes())
    return generated, reference


@pytest.fixture(scope="module")
def evaluation(folders, judges):
    return evaluate(*folders, **judges, fid_backbone="dlib_resnet", workers=2, progress=False)


def test_ground_truth_against_itself_is_perfect(folders, judges, tmp_path_factory):
    reference = tmp_path_factory.mktemp("truth")
    for name in ("M003_hap_1_001", "M003_sad_1_002"):
        (reference / f"{name}.mp4").write_bytes((folders[1] / f"{name}.mp4").read_bytes())
    found = evaluate(reference, reference, name="itself", **judges, fid_backbone="dlib_resnet", progress=False)
    truth, itself = found.report.methods
    for protocol in ("eat_official", "standard"):
        values = {key: metric.value for key, metric in itself.protocols[protocol].metrics.items()}
        assert values["psnr"] == math.inf and values["ssim"] == 1 and values["csim"] == 1
        assert values["m_lmd"] == values["f_lmd"] == 0
        assert values["fd (dlib_resnet)"] == pytest.approx(0, abs=1e-6)
        shared = truth.protocols[protocol].metrics
        assert {"sync_confidence", "sync_distance", "acc_emo", "border_jitter"} <= set(shared)
        assert all(metric.value == values[key] for key, metric in shared.items())


def test_a_worse_clip_scores_worse(evaluation):
    clips = {clip.name: clip for clip in evaluation.report.methods[1].clips}
    good, blurred = clips["M003_hap_1_001"], clips["M003_sad_1_002"]
    for protocol in ("eat_official", "standard"):
        assert good.values[protocol]["psnr"] is None or good.values[protocol]["psnr"] == math.inf
        assert blurred.values[protocol]["psnr"] < 40
        assert blurred.values[protocol]["ssim"] < 0.95 < good.values[protocol]["ssim"]
        assert blurred.values[protocol]["csim"] < good.values[protocol]["csim"]
        assert blurred.values[protocol]["f_lmd"] > good.values[protocol]["f_lmd"] == 0
    assert good.emotion == "happy" and blurred.emotion == "sad" and good.frames == FRAMES
    assert good.predicted_emotion in EmotionFAN(base_width=1).config.classes


def test_what_cannot_be_scored_is_listed_with_its_reason(evaluation):
    truth, method = evaluation.report.methods
    assert truth.is_ground_truth and method.name == "mine"
    assert [clip.name for clip in method.clips] == ["M003_hap_1_001", "M003_sad_1_002", "sub/M003_con_1_008"]
    reasons = {clip.name: clip.reason for clip in method.rejected}
    assert set(reasons) == {
        "M003_ang_1_003",
        "M003_fea_1_004",
        "M003_sur_1_005",
        "M003_dis_1_006",
        "M003_neu_1_007",
        "broken",
    }
    assert "no face" in reasons["M003_ang_1_003"] and "generated" in reasons["M003_ang_1_003"]
    assert reasons["M003_fea_1_004"] == "wrong length: 16 frames, the reference has 8"
    assert "3 frames" in reasons["M003_sur_1_005"] and "unreadable" in reasons["broken"]
    assert "no video of this name" in reasons["M003_dis_1_006"]


def test_the_report_names_judges_and_counts_emotions(evaluation):
    report = evaluation.report
    assert report.judges["features"].name == "dlib_resnet" and not report.judges["features"].standard
    confusion = np.array(report.methods[1].emotions.confusion)
    assert confusion.sum() == 3 and confusion[report.methods[1].emotions.classes.index("happy")].sum() == 1
    assert [figure.clip for figure in evaluation.figures] == [clip.name for clip in report.methods[1].clips]
    curve = report.methods[1].protocols["standard"].sync_curve
    assert min(curve.offsets) == -15 and max(curve.offsets) == 15


@pytest.mark.slow
def test_workers_and_runs_change_no_number(evaluation, folders, judges):
    threads = torch.get_num_threads()
    again = evaluate(*folders, **judges, fid_backbone="dlib_resnet", workers=1, progress=False)
    assert again.report.to_json() == evaluation.report.to_json()
    assert again.figures == evaluation.figures and torch.get_num_threads() == threads


@pytest.mark.slow
def test_judges_can_be_left_out_and_sound_may_be_missing(face, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / "clip.mp4", face)
    found = evaluate(
        tmp_path / "a",
        tmp_path / "b",
        ["standard"],
        syncnet=None,
        emotion_judge=None,
        fid_backbone="none",
        workers=1,
        progress=False,
    )
    metrics = found.report.methods[1].protocols["standard"].metrics
    assert set(metrics) == {"psnr", "ssim", "m_lmd", "f_lmd", "csim", "border_jitter", "landmark_jitter"}


def test_mistakes(folders, judges, tmp_path):
    generated, reference = folders
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.mp4").write_bytes(b"")
    for arguments, words in (
        ((tmp_path / "nowhere", reference), "There is no folder"),
        ((tmp_path / "empty", reference), "There is no video in"),
        ((tmp_path / "other", reference), "has the name of one in"),
        ((generated, reference, ["paper"]), "A protocol is one of"),
    ):
        with pytest.raises(UserError, match=words):
            evaluate(*arguments, **judges, progress=False)
    with pytest.raises(UserError, match="nowhere is neither a folder nor the name of a repository"):
        evaluate(generated, reference, syncnet=str(tmp_path / "nowhere"), emotion_judge=None, progress=False)
    (tmp_path / "other" / "broken.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="None of the 1 clips could be scored: unreadable"):
        evaluate(tmp_path / "other", reference, **judges, fid_backbone="none", workers=1, progress=False)


# Pairing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "emotion"),
    [
        ("M003_ang_3_001", "angry"),
        ("W009/front/happy/level_2/004", "happy"),
        ("id0001_speech_0003_surprised_2", "surprised"),
        ("1001_DFA_SAD_XX", "sad"),
        ("disgust-17", "disgusted"),
        ("conversation", None),
        ("happy_or_sad", None),
        ("clip_0001", None),
    ],
)
def test_emotions_in_names(name, emotion):
    assert emotion_in(name) == emotion


def test_labels_in_a_file_come_first(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x_happy.mp4").touch()
    (tmp_path / "b" / "labels.csv").write_text("clip,emotion\nx_happy.mp4,Fear\n")
    pairs, rejected = pair_clips(tmp_path / "a", tmp_path / "b")
    assert [pair.emotion for pair in pairs] == ["fear"] and not rejected
    (tmp_path / "b" / "labels.csv").write_text("clip,emotion\nx,bored\n")
    with pytest.raises(UserError, match="'bored' of x is none of"):
        read_labels(tmp_path / "b")
    (tmp_path / "b" / "labels.csv").write_text("name,label\nx,fear\n")
    with pytest.raises(UserError, match="needs the columns clip and emotion"):
        read_labels(tmp_path / "b")


def test_two_videos_of_one_name(tmp_path):
    for name in ("x.mp4", "x.avi"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="have the same name"):
        pair_clips(tmp_path, tmp_path)


# Faces ---------------------------------------------------------------------------------------------------------------


def test_the_track_follows_the_face_and_bridges_gaps(face):
    frames = face.copy()
    frames[3:5] = 0
    track = track_faces(frames)
    assert track.found.tolist() == [True] * 3 + [False] * 2 + [True] * 3 and np.isnan(track.landmarks[3]).all()
    moved = track.landmarks[-1].mean(0) - track.landmarks[0].mean(0)
    assert np.allclose(moved, np.array([14, 7]) * 192 / 220, atol=2)
    whole = track_faces(face)
    assert np.abs(track.filled().landmarks - whole.landmarks).mean() < 1.5


def test_mean_face_crops_put_nose_and_eyes_where_the_mean_face_has_them(face):
    crops = mean_face_crops(face, track_faces(face))
    assert crops.shape == (FRAMES, 128, 128, 3)
    found = track_faces(crops).landmarks[:, MEAN_FACE_POINTS] + 1  # a border of one pixel is cut away
    assert np.abs(found - MEAN_FACE).mean() < 3
    assert np.abs(np.diff(crops.astype(int), axis=0)).mean() < np.abs(np.diff(face.astype(int), axis=0)).mean()


def test_crops_for_syncnet_hold_the_mouth_still(face):
    track = track_faces(face)
    crops = mouth_aligned_crops(face, track, 224)
    mouths = track_faces(crops).landmarks[:, 60:68].mean(1)
    assert np.abs(mouths - [112, 120]).max() < 4
    assert mouth_aligned_crops(face, track, 112).shape == tracked_crops(face, track, 112).shape == (8, 112, 112, 3)


def test_tracked_crops_may_reach_beyond_the_picture(face):
    track = track_faces(face)
    corner = FaceTrack(track.boxes - track.boxes[:, :1], track.landmarks)
    crops = tracked_crops(face, corner, 64)
    assert crops.shape == (FRAMES, 64, 64, 3) and (crops[:, :, 0] == 110).all()


def test_chips_are_dlibs(face):
    import dlib

    track = track_faces(face[:1])
    points = [dlib.point(*np.rint(p).astype(int).tolist()) for p in track.landmarks[0]]
    shape = dlib.full_object_detection(dlib.rectangle(0, 0, 10, 10), points)
    assert (face_chips(face[:1], track.landmarks, 96)[0] == dlib.get_face_chip(face[0], shape, 96, 0.25)).all()


# Command line --------------------------------------------------------------------------------------------------------


def test_the_command_writes_report_and_page(folders, judges, tmp_path, capsys):
    few = [tmp_path / folder.name for folder in folders]
    for target, source in zip(few, folders, strict=True):
        target.mkdir()
        for name in ("M003_hap_1_001", "M003_sur_1_005"):
            (target / f"{name}.mp4").write_bytes((source / f"{name}.mp4").read_bytes())
    arguments = ["--generated", few[0], "--reference", few[1], "--protocol", "standard"]
    networks = ["--syncnet", judges["syncnet"], "--emotion-judge", judges["emotion_judge"]]
    target = tmp_path / "report.json"
    command = [sys.executable, "-m", "eat_hf.cli", "evaluate", *arguments, *networks]
    done = subprocess.run(
        [*map(str, command), "--fid-backbone", "dlib_resnet", "--workers", "1", "-o", str(target)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ground truth" in done.stdout and "1 of 2 clips rejected" in done.stdout
    assert json.loads(target.read_text())["report"]["methods"][0]["name"] == "ground truth"
    assert "M003_hap_1_001" in (tmp_path / "report.html").read_text()
    for wrong, words in (
        (["--generated", tmp_path / "nowhere", "--reference", few[1]], "There is no folder"),
        ([*arguments[:4], "-o", tmp_path / "report.txt"], "The report is a .json file"),
    ):
        with pytest.raises(SystemExit, match="2"):
            cli.main(["evaluate", *map(str, wrong)])
        said = capsys.readouterr().err
        assert words in said and len(said.splitlines()) == 1


def test_sound_may_lie_beside_the_video(face, tmp_path):
    from eat_hf.errors import UnscorableClip
    from eat_hf.evaluation.clips import read_sound

    write_video(tmp_path / "silent.mp4", face)
    with pytest.raises(UnscorableClip, match="no sound"):
        read_sound(tmp_path / "silent.mp4")
    scipy.io.wavfile.write(tmp_path / "silent.wav", 16000, voice(0.3))
    assert len(read_sound(tmp_path / "silent.mp4")) == 4800
