"""The check of portraits: its judgements on made-up clips, the scripts with a tiny pipeline, and one real run."""

import json

import numpy as np
import pytest
import scipy.io.wavfile
from conftest import voice
from PIL import Image

from eat_hf.errors import UserError
from training.experiments import contact_sheet
from training.experiments import portraits as check_portraits
from training.experiments.contact_sheet import HEADER, draw_sheet, find_portraits
from training.experiments.face_measures import MEASURES
from training.experiments.portraits import MOVES, Clip, check_clips, check_emotions, spoken_part

LOUD = np.random.default_rng(0).random(40)
GOOD = {"frames": 40, "frames_without_face": 0, "border": 0.1, "cosine": 0.95, "distance": 0.4}


def clip(**numbers):
    return Clip({"mouth_opening": np.roll(LOUD, 2)}, GOOD | numbers, np.zeros((256, 256, 3), np.uint8))


def judged(checks):
    return {check.name: (check.passed, check.detail) for check in checks}


def changes(**values):
    """Changes of one emotion: 0 but for `values`."""
    return dict.fromkeys([*MEASURES, "one_corner"], 0.0) | values


def run(script, *arguments):
    return script.main([*map(str, arguments)])


# Judgements ----------------------------------------------------------------------------------------------------------


def test_good_clips_pass_everything():
    checks = list(check_clips({"neutral": clip(), "happy": clip()}, LOUD))
    assert all(check.passed for check in checks) and len(checks) == 6
    assert judged(checks)["lips follow the voice"] == (True, "lips 2 frames late")


@pytest.mark.parametrize(
    "name, numbers",
    [
        ("a face in every frame", {"frames_without_face": 1}),
        ("the border is still", {"border": 0.31}),
        ("the same person, cosine", {"cosine": 0.79}),
        ("the same person, cosine", {"cosine": float("nan")}),
        ("the same person, distance", {"distance": 0.61}),
        ("the same person, distance", {"distance": float("nan")}),
    ],
)
def test_one_bad_clip_fails_its_check_alone(name, numbers):
    checks = judged(check_clips({"neutral": clip(), "sad": clip(**numbers), "happy": clip()}, LOUD))
    assert {failed: detail for failed, (passed, detail) in checks.items() if not passed} == {name: "sad"}


def test_lips_that_do_not_follow_fail():
    assert not judged(check_clips({"neutral": clip()}, LOUD[::-1].copy()))["lips follow the voice"][0]


def test_a_mouth_that_hardly_moves_fails():
    still = clip()
    still.measures["mouth_opening"] *= 0.5 * MOVES / still.measures["mouth_opening"].std()
    assert {name for name, (passed, _) in judged(check_clips({"neutral": still}, LOUD)).items() if not passed} == {
        "the mouth moves"
    }


def test_happy_must_smile_visibly_more_than_the_others_and_neutral():
    def happy(smile, **others):
        smiles = {"happy": smile} | others
        checks = check_emotions({emotion: changes(smile=value) for emotion, value in smiles.items()})
        return judged(checks)["happy smiles most"]

    assert happy(0.05, surprised=0.01) == (True, "+0.050; surprised comes next")
    assert happy(0.05, surprised=-0.2) == (True, "+0.050; neutral comes next")
    assert not happy(0.05, surprised=0.04)[0]
    assert not happy(0.01, surprised=-0.2)[0]
    assert not happy(0.05, surprised=float("nan"))[0]


@pytest.mark.parametrize(
    "emotion, right, wrong",
    [
        ("surprised", {"brow": 0.05, "jaw": 0.05}, {"brow": -0.05, "jaw": -0.05}),
        ("surprised", {"brow": 0.05, "mouth_opening": 0.05}, {"brow": 0.01, "mouth_opening": 0.01}),
        ("angry", {"brow": -0.05}, {"brow": 0.05}),
        ("sad", {"corner_height": -0.05}, {"corner_height": 0.05, "inner_brow": -0.05}),
        ("sad", {"inner_brow": 0.05}, {"brow": 0.05}),
        ("disgusted", {"upper_lip": 0.05}, {"upper_lip": -0.05, "brow": 0.05}),
        ("fear", {"brow": 0.05}, {"brow": -0.05}),
        ("contempt", {"one_corner": 0.05}, {"left_corner": 0.05, "right_corner": 0.05}),
    ],
)
def test_emotions_must_go_the_right_way(emotion, right, wrong):
    assert all(check.passed for check in check_emotions({emotion: changes(**right)}))
    assert not any(check.passed for check in check_emotions({emotion: changes(**wrong)}))


# Input ---------------------------------------------------------------------------------------------------------------


def test_the_clip_begins_where_the_voice_does():
    waveform = np.concatenate([np.full(3 * 640, 0.001), np.full(5 * 640, 0.5)]).astype(np.float32)
    assert spoken_part(waveform, 4).tolist() == waveform[3 * 640 : 7 * 640].tolist()
    assert len(spoken_part(waveform, 99)) == 5 * 640
    with pytest.raises(UserError, match="silent"):
        spoken_part(np.zeros(16000, np.float32), 4)


def test_portraits_of_files_and_folders(tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("b.PNG", "a.jpg", "notes.txt", "more/c.png"):
        (tmp_path / name).touch()
    assert list(find_portraits([str(tmp_path), str(tmp_path / "more" / "c.png")])) == ["a.jpg", "b.PNG", "c.png"]
    assert list(find_portraits([str(tmp_path), str(tmp_path / "a.jpg")])) == ["a.jpg", "b.PNG"]
    public = find_portraits(["astronaut", "grace_hopper"])
    assert public["astronaut"].shape == (512, 512, 3) and public["grace_hopper"].shape == (600, 512, 3)


def test_portraits_that_cannot_be_found(tmp_path):
    with pytest.raises(UserError, match="no portrait nobody.png"):
        find_portraits(["nobody.png"])
    with pytest.raises(UserError, match="no picture in"):
        find_portraits([str(tmp_path)])
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "face.png").touch()
    with pytest.raises(UserError, match="Two portraits are called face.png"):
        find_portraits([str(tmp_path / "one"), str(tmp_path / "two")])


def test_sheet_has_every_picture_in_its_place():
    colours = np.array([[(250, 0, 0), (0, 250, 0), (0, 0, 250)], [(250, 250, 0), (0, 250, 250), (250, 0, 250)]])
    rows = {
        name: [np.full((64, 64, 3), colour, np.uint8) for colour in line]
        for name, line in zip("ab", colours, strict=True)
    }
    sheet = draw_sheet(rows, ["portrait", "neutral", "happy"], 40)
    assert sheet.size == (HEADER + 3 * 40, HEADER + 2 * 40)
    for row in range(2):
        for column in range(3):
            middle = sheet.getpixel((HEADER + 40 * column + 20, HEADER + 40 * row + 20))
            assert middle == tuple(colours[row, column])
    assert (np.asarray(sheet)[:HEADER] < 128).any() and (np.asarray(sheet)[:, :HEADER] < 128).any()  # names


# Whole scripts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def broken_file(tmp_path):
    path = tmp_path / "broken.png"
    path.write_text("no picture")
    return path


def test_check_with_a_tiny_pipeline(tiny_model, portrait_file, broken_file, recording_file, tmp_path, capsys):
    options = ["--audio", recording_file, "--model", tiny_model, "--output", tmp_path / "out", "--workers", 1]
    options += ["--frames", 8, "--emotion_frames", 5, "--size", 32]
    assert run(check_portraits, "--portraits", portrait_file, broken_file, *options) == 0
    printed = capsys.readouterr().out
    assert "the border is still" in printed and "left out: broken.png" in printed
    text = (tmp_path / "out" / "portraits.json").read_text()
    assert "NaN" not in text
    report = json.loads(text)
    assert list(report["left_out"]) == ["broken.png"]
    (result,) = report["portraits"]
    assert result["name"] == "astronaut.png" and len(result["checks"]) == 6 + 8
    assert {emotion: clip["frames"] for emotion, clip in result["clips"].items()} == {
        "neutral": 8, "angry": 5, "contempt": 5, "disgusted": 5, "fear": 5, "happy": 5, "sad": 5, "surprised": 5,
    }  # fmt: skip
    assert Image.open(tmp_path / "out" / "portraits.png").size == (HEADER + 9 * 32, HEADER + 32)


def test_check_without_a_usable_portrait(tiny_model, broken_file, recording_file, tmp_path, capsys):
    options = ["--audio", recording_file, "--model", tiny_model, "--output", tmp_path / "out"]
    assert run(check_portraits, "--portraits", broken_file, *options) == 2
    assert "left out: broken.png" in capsys.readouterr().out
    with pytest.raises(UserError, match="There is no portrait nobody.png"):
        run(check_portraits, "--portraits", "nobody.png", *options)


@pytest.mark.slow
def test_contact_sheet_with_a_tiny_pipeline(tiny_model, portrait_file, recording_file, tmp_path):
    options = ["--audio", recording_file, "--model", tiny_model, "--output", tmp_path / "sheet.png", "--size", 32]
    run(contact_sheet, "--portraits", portrait_file, "--seconds", 0, 0.2, *options)
    assert Image.open(tmp_path / "sheet.png").size == (HEADER + 9 * 32, HEADER + 2 * 32)


@pytest.mark.slow
def test_bundled_checkpoint_on_a_photograph(tmp_path):
    """The person stays, the border too, and a face is found; what lips and emotions do is for the report."""
    recording = tmp_path / "voice.wav"
    scipy.io.wavfile.write(recording, 16000, voice(1.0))
    options = ["--audio", recording, "--output", tmp_path, "--frames", 25, "--emotion_frames", 10]
    assert run(check_portraits, "--portraits", "astronaut", *options) == 0
    (result,) = json.loads((tmp_path / "portraits.json").read_text())["portraits"]
    passed = {check["name"]: check["passed"] for check in result["checks"]}
    assert passed["a face in every frame"] and passed["the border is still"]
    assert passed["the same person, cosine"] and passed["the same person, distance"]
    assert passed["happy smiles most"]
