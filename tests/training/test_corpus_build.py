"""The corpus builder and its reader, on a tiny corpus with the real renderer and espeak-ng."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

from eat_hf.errors import UserError  # noqa: E402
from training.corpus import build, heads, voices  # noqa: E402
from training.corpus.build import Plan, build_corpus, split_of_identities  # noqa: E402
from training.corpus.captions import ACTIONS, make_wish  # noqa: E402
from training.corpus.people import sample_identity  # noqa: E402
from training.corpus.sentences import sentences  # noqa: E402
from training.corpus.speech import VOICES  # noqa: E402
from training.data.dataset import Corpus  # noqa: E402


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted((folder / "clips").iterdir())}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """2 identities, each with a range-of-motion clip, 1 rendered and 2 latent-only speech clips."""
    plan = Plan(tmp_path_factory.mktemp("corpus"), identities=2, speech_clips=1, latent_clips=2, seed=3,
                frames_per_clip=15, range_frames=4)  # fmt: skip
    build_corpus(plan, workers=2, progress=False)
    return plan


def test_corpus_reads_back(tiny):
    corpus = Corpus(tiny.output)
    assert len(corpus) == 8
    assert len(corpus.clips(kind="range_of_motion")) == 2 and len(corpus.clips(rendered=False)) == 4
    assert corpus.info["seed"] == 3 and corpus.info["keypoint_names"] == list(heads.KEYPOINT_NAMES)
    points = len(heads.KEYPOINT_NAMES)
    for clip in corpus.clips():
        labels, frames = clip.labels(), clip.length
        assert frames == 4 if clip.kind == "range_of_motion" else frames >= 10
        assert frames <= 15 or not clip.rendered
        shapes = {"yaw": (frames,), "pitch": (frames,), "roll": (frames,), "translation": (frames, 3),
                  "arkit": (frames, 52), "canonical": (points, 3), "expression": (frames, points, 3),
                  "keypoints": (frames, points, 3), "landmarks": (frames, 68, 3), "face_box": (frames, 4)}  # fmt: skip
        assert {name: labels[name].shape for name in shapes} == shapes
        assert all(labels[name].dtype == np.float32 for name in shapes)
        assert labels["arkit_names"].tolist() == list(heads.ARKIT_NAMES)
        assert len(labels["phonemes"]) == len(labels["phoneme_times"])
        # Eq. 1 with the head-frame expression: K = R (K_c + E) + t, as the camera sees it
        rotation = heads.head_rotation(labels["yaw"], labels["pitch"], labels["roll"])
        posed = (labels["canonical"] + labels["expression"]) @ rotation.transpose(0, 2, 1)
        seen = heads.in_perspective(posed + labels["translation"][:, None], *labels["camera"])
        np.testing.assert_allclose(seen, labels["keypoints"], atol=1e-5)
        assert np.isfinite(labels["camera"][0]) == clip.rendered  # clips without pictures have no camera
        if clip.kind == "speech":
            assert len(clip.waveform()) == frames * 640 and clip.waveform().dtype == np.float32
            assert labels["phoneme_times"][-1, 1] == pytest.approx(frames / 25, abs=1e-4)
        else:
            with pytest.raises(ValueError, match="has no sound"):
                clip.waveform()
        if clip.rendered and clip.kind == "speech":
            # the first frame, but for the face: the same person in the same place
            portrait, first = clip.portrait().astype(int), clip.frames()[0]
            assert portrait.shape == (256, 256, 3) and np.abs(portrait - first)[:32].mean() < 3
        else:
            with pytest.raises(ValueError, match="no portrait"):
                clip.portrait()
        if clip.rendered:
            assert clip.frames().shape == (frames, 256, 256, 3) and clip.frames().dtype == np.uint8
        else:
            with pytest.raises(ValueError, match="no pictures"):
                clip.frames()


def test_stored_pictures_are_the_rendered_ones(tiny):
    """What is read back is what the renderer made, within the coding error, and not a shade darker."""
    from training.corpus.render import ClipRenderer

    clip = Corpus(tiny.output).clips(kind="range_of_motion", identity=1)[0]
    person = sample_identity(tiny.rng(build._IDENTITY, 1))
    motion = heads.range_of_motion(person, tiny.rng(build._RANGE, 1, 0), 4)
    error = clip.frames().astype(float) - ClipRenderer(person).clip(motion)
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 27
    assert np.abs(error.mean((0, 1, 2))).max() < 0.8


def test_interrupted_build_is_completed_to_the_same_corpus(tiny):
    before, index = digests(tiny.output), (tiny.output / "metadata.jsonl").read_bytes()
    clips = tiny.output / "clips"
    kept = (clips / "id0000_range.mp4").stat().st_mtime_ns
    for name in ("id0001_range.mp4", "id0001_speech_0000.npz", "id0000_latent_0001.wav"):
        (clips / name).unlink()
    (clips / "id0001_range.part.mp4").write_bytes(b"half a film")
    build_corpus(tiny, workers=1, progress=False)  # fewer workers: the number changes nothing
    assert digests(tiny.output) == before
    assert (tiny.output / "metadata.jsonl").read_bytes() == index
    assert (clips / "id0000_range.mp4").stat().st_mtime_ns == kept  # finished clips are left alone


def test_same_seed_same_labels_and_another_seed_others(tmp_path):
    plan = Plan(tmp_path / "a", identities=1, speech_clips=0, latent_clips=3, seed=5, range_frames=0)
    build_corpus(plan, progress=False)
    build_corpus(dataclasses.replace(plan, output=tmp_path / "b"), progress=False)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    build_corpus(dataclasses.replace(plan, output=tmp_path / "c", seed=6), progress=False)
    assert not set(digests(tmp_path / "a").values()) & set(digests(tmp_path / "c").values())


def test_folder_of_another_corpus_is_refused(tiny, tmp_path):
    with pytest.raises(ValueError, match="was made with seed 3, not 4"):
        build_corpus(dataclasses.replace(tiny, seed=4), progress=False)
    with pytest.raises(ValueError, match="at least 1 identity"):
        build_corpus(Plan(tmp_path / "none", 0, 1, 1), progress=False)
    with pytest.raises(UserError, match="was made with seed 3, not 4"):
        build.main(["--output", str(tiny.output), "--seed", "4", "--identities", "2"])
    with pytest.raises(FileNotFoundError, match="is no corpus"):
        Corpus(tmp_path)


def test_splits_by_identity():
    plan = Plan(None, identities=100, speech_clips=0, latent_clips=0)
    split = split_of_identities(plan)
    assert {name: split.count(name) for name in set(split)} == {"train": 84, "validation": 8, "test": 8}
    assert split == split_of_identities(plan) != split_of_identities(dataclasses.replace(plan, seed=1))
    assert split_of_identities(dataclasses.replace(plan, identities=64)).count("test") == 8
    assert split_of_identities(dataclasses.replace(plan, identities=8)).count("test") == 1


def test_emotions_are_balanced_over_an_identity():
    plan = Plan(None, identities=1, speech_clips=0, latent_clips=0)
    drawn = [build._emotion_of(plan, build._LATENT, 0, clip) for clip in range(30)]
    assert drawn.count(("neutral", 0)) == 9
    assert all(drawn.count((emotion, level)) == 1
               for emotion in set(build.EMOTIONS) - {"neutral"} for level in (1, 2, 3))  # fmt: skip


def test_test_identities_hear_test_sentences_and_voices_only(tmp_path):
    plan = Plan(tmp_path, identities=8, speech_clips=0, latent_clips=0)
    for split in ("train", "validation", "test", "judge"):
        spoken = [build._speech_for(plan, split, "female", i, "happy", 2, True, plan.rng(9, i)) for i in range(4)]
        assert any(s.text for s in spoken)
        for s in spoken:
            assert s.text == "" or (s.text in sentences(split) and s.voice in VOICES[split]["female"])
            assert s.frames <= plan.frames_per_clip


def test_metadata_is_a_hub_dataset(tiny):
    lines = [json.loads(line) for line in (tiny.output / "metadata.jsonl").read_text(encoding="utf8").splitlines()]
    fields = {"file_name", "wav", "portrait", "labels", "kind", "identity", "split", "emotion", "level", "text",
              "voice", "frames", "seed", "family"}  # fmt: skip
    for line in lines:
        assert set(line) == fields
        for name in ("file_name", "wav", "portrait", "labels"):
            assert line[name] is None or (tiny.output / line[name]).is_file()


def test_a_corpus_for_judges_shares_nothing_with_the_others(tmp_path):
    plan = Plan(tmp_path, identities=3, speech_clips=0, latent_clips=1, seed=1, range_frames=0, judge=True)
    build_corpus(plan, progress=False)
    corpus = Corpus(tmp_path)
    assert {clip.split for clip in corpus.clips()} == {"judge"} and len(corpus) == 3
    others = {text for split in ("train", "validation", "test") for text in sentences(split)}
    assert not others & {clip.metadata["text"] for clip in corpus.clips()} - {""}
    with pytest.raises(ValueError, match="was made with judge True, not False"):
        build_corpus(dataclasses.replace(plan, judge=False), progress=False)


def test_a_corpus_of_an_expression_that_no_model_knows(tmp_path):
    plan = Plan(tmp_path, identities=2, speech_clips=0, latent_clips=2, seed=1, range_frames=0, expression="wince")
    build_corpus(plan, progress=False)
    corpus = Corpus(tmp_path)
    assert {(clip.emotion, clip.level) for clip in corpus.clips()} == {("wince", 3)}
    units = list(corpus.info["arkit_names"])
    lids = [units.index(f"eyeSquint{side}") for side in ("Left", "Right")]
    assert all(clip.labels()["arkit"][:, lids].mean() > 0.4 for clip in corpus.clips())
    with pytest.raises(ValueError, match="was made with expression wince"):
        build_corpus(dataclasses.replace(plan, expression=""), progress=False)
    with pytest.raises(ValueError, match="one of wince, pout, wishes, not 'happy'"):
        build_corpus(dataclasses.replace(plan, output=tmp_path / "other", expression="happy"), progress=False)


def test_a_corpus_of_wishes_says_what_every_frame_shows(tmp_path):
    plan = Plan(tmp_path, identities=1, speech_clips=0, latent_clips=2, seed=1, range_frames=8, expression="wishes")
    build_corpus(plan, progress=False)
    ranges, *speech = Corpus(tmp_path).clips()
    assert {clip.emotion for clip in speech} == {"wishes"}
    for clip, frames in ((ranges, 8), *((clip, 1) for clip in speech)):
        wishes = [make_wish(tuple(map(tuple, parts))) for parts in clip.metadata["wish"]]
        assert len(wishes) == frames
        shown = clip.labels()["arkit"]
        shown = shown[3:] if clip is ranges else shown.mean(0, keepdims=True)
        for wish, arkit in zip(wishes[3:] if clip is ranges else wishes, shown, strict=True):
            actions = [part for part in wish.parts if part[0] in ACTIONS]  # emotions have several forms
            wanted = make_wish(tuple(actions)).arkit if actions else wish.arkit * 0
            assert (arkit[wanted > 0.6] > 0.2).all()


def test_one_split_alone_is_the_same_as_within_the_whole(tmp_path):
    plan = Plan(tmp_path / "whole", identities=8, speech_clips=0, latent_clips=1, range_frames=0)
    part = dataclasses.replace(plan, output=tmp_path / "part", splits=("test",))
    for each in (plan, part):
        build_corpus(each, progress=False)
    whole, part = digests(plan.output), digests(part.output)
    assert len(part) == 2 and part.items() <= whole.items()


def test_same_seed_same_pictures(tmp_path):
    plan = Plan(tmp_path / "a", identities=1, speech_clips=1, latent_clips=0, seed=8, range_frames=4,
                frames_per_clip=10, dense_labels=True)  # fmt: skip
    build_corpus(plan, progress=False)
    build_corpus(dataclasses.replace(plan, output=tmp_path / "b"), progress=False)
    made = digests(tmp_path / "a")
    assert {name.rpartition(".")[2] for name in made} == {"mp4", "npz", "png", "wav"}
    assert made == digests(tmp_path / "b")


def test_clips_take_their_sound_from_a_corpus_of_voices(tmp_path):
    few = {"flite_clips": 0, "silent_clips": 1, "held_out_clips": 1}
    voices.build(voices.VoicesOptions(str(tmp_path / "voices"), espeak_clips=3, **few))
    said = {
        (clip.metadata["text"], clip.identity): clip
        for clip in Corpus(tmp_path / "voices").clips(split="train", kind="speech")
    }
    plan = Plan(tmp_path / "people", 1, 0, 10, range_frames=0, voices=str(tmp_path / "voices"))
    build_corpus(plan, progress=False)
    clips = Corpus(plan.output).clips(kind="speech")
    taken = [clip for clip in clips if (clip.metadata["text"], clip.metadata["voice"]) in said]
    assert 0 < len(taken) < len(clips)  # the others are espeak's own
    for clip in taken:
        original = said[clip.metadata["text"], clip.metadata["voice"]]
        times, of_original = (each.labels()["phoneme_times"] for each in (clip, original))
        np.testing.assert_allclose(times, np.minimum(of_original[: len(times)], clip.length / 25), atol=1e-5)
        loudness = [np.abs(each.waveform()[: 640 * clip.length]).reshape(-1, 640).mean(1) for each in (clip, original)]
        assert np.corrcoef(*loudness)[0, 1] > 0.5
