"""The corpus of voices: flite's, real recordings with their texts, what microphones and lines make of them, and all."""

import json
import shutil

import numpy as np
import pytest
import scipy.io.wavfile
import soxr

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

from eat_hf.constants import SAMPLING_RATE  # noqa: E402
from eat_hf.errors import UserError  # noqa: E402
from training.corpus import conditions, flite, recordings, visemes, voices  # noqa: E402
from training.corpus.speech import Prosody, synthesize  # noqa: E402
from training.data.dataset import Corpus  # noqa: E402

needs_flite = pytest.mark.skipif(shutil.which("flite") is None, reason="flite: apt-get install flite")
TEXT = "Bob may put my big map away."
Phones = list[tuple[str, float, float]]


@pytest.fixture(scope="module")
def spoken():
    """A sentence, (N,) at 16 kHz, half a second of a quiet room before and after it, and when its phones are spoken."""
    samples, rate, phones = synthesize(TEXT, "en-us+f2", Prosody(rate=150), seed=1)
    sound = np.pad(soxr.resample(samples, rate, SAMPLING_RATE), SAMPLING_RATE // 2)
    sound += np.random.default_rng(0).normal(0, 1e-3, len(sound))
    return sound.astype(np.float32), [("_", 0.0, 0.5), *((name, start + 0.5, end + 0.5) for name, start, end in phones)]


def tiles(phones: Phones, samples: int) -> bool:
    edges = [0.0, *(end for _, _, end in phones)]
    starts = [start for _, start, _ in phones]
    return np.allclose(edges[:-1], starts, atol=1e-6) and edges[-1] == pytest.approx(samples / SAMPLING_RATE, abs=0.011)


def level(waveform: np.ndarray, phones: Phones, wanted: str) -> float:
    """Mean power in the middle of phones of some kinds."""
    spans = [(start, end) for name, start, end in phones if visemes.atoms(name)[0] in wanted and end - start > 0.05]
    rate = SAMPLING_RATE
    cut = [waveform[int((0.7 * a + 0.3 * b) * rate) : int((0.3 * a + 0.7 * b) * rate)] for a, b in spans]
    return float(np.mean(np.concatenate(cut) ** 2))


# flite ----------------------------------------------------------------------------------------------------------------


@needs_flite
@pytest.mark.parametrize("voice", [voice for split in flite.VOICES.values() for voice in split])
def test_flites_phones_tile_its_sound(voice):
    waveform, phones = flite.say(TEXT, voice)
    assert waveform.dtype == np.float32 and 1 < len(waveform) / SAMPLING_RATE < 4 and tiles(phones, len(waveform))
    assert phones[0][0] == visemes.SILENCE and {"b", "m", "p"} <= {name for name, _, _ in phones}
    for name, _, _ in phones:
        visemes.class_of(name)
    vowels = {name[0] for name, _, _ in phones if name[0] in "ɑæɪɛʌu"}
    assert level(waveform, phones, "".join(vowels)) > 20 * level(waveform, phones, visemes.SILENCE)


@needs_flite
def test_flite_speaks_slower(monkeypatch):
    fast, slow = (flite.say("Maybe.", "slt", stretch)[0] for stretch in (1.0, 1.5))
    assert len(slow) > 1.3 * len(fast)
    with pytest.raises(UserError, match="flite could not say 'Maybe.' with its voice slt: .*timed out"):
        monkeypatch.setattr(flite, "LONGEST", 1e-6)
        flite.say("Maybe.", "slt")


def test_without_flite_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="apt-get install flite, or leave its voices out"):
        flite.say("Maybe.", "slt")


# Recordings -----------------------------------------------------------------------------------------------------------


def write(path, waveform):
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.wavfile.write(path, SAMPLING_RATE, waveform)


def test_readings_are_found_as_corpora_are_unpacked(tmp_path, spoken):
    silence = np.zeros(100, np.float32)
    ours, lj, libri, common, beside = (tmp_path / name for name in ("ours", "lj", "libri", "common", "beside"))
    for path in (
        ours / "a.wav",
        lj / "wavs/LJ1.wav",
        libri / "84/121/84_1.wav",
        common / "clips/c1.wav",
        beside / "x.wav",
    ):
        write(path, silence)
    (ours / "transcripts.csv").write_text('id,text\na,"One, two."\nmissing,Three.\n')
    (lj / "metadata.csv").write_text("LJ1|It is 3.|It is three.\n")
    (libri / "84/121/84_1.normalized.txt").write_text("He reads.\n")
    (common / "validated.tsv").write_text("client_id\tpath\tsentence\nann\tc1.wav\tShe says.\n")
    (beside / "x.txt").write_text("Beside it.")
    found = {folder.name: recordings.find_readings(folder) for folder in (ours, lj, libri, common, beside)}
    told = {name: [(each.path.name, each.text, each.reader) for each in readings] for name, readings in found.items()}
    assert told == {
        "ours": [("a.wav", "One, two.", "ours")],
        "lj": [("LJ1.wav", "It is three.", "lj")],
        "libri": [("84_1.wav", "He reads.", "84")],
        "common": [("c1.wav", "She says.", "ann")],
        "beside": [("x.wav", "Beside it.", "beside")],
    }
    with pytest.raises(UserError, match="put a transcripts.csv"):
        recordings.find_readings(tmp_path / "ours" / ".." / "lj" / "wavs")
    with pytest.raises(UserError, match="There is no folder"):
        recordings.find_readings(tmp_path / "nothing")


@pytest.fixture(scope="module")
def aligner():
    pytest.importorskip("pocketsphinx", reason="pocketsphinx: pip install 'eat_hf[recordings]'")
    return recordings.Aligner()


def test_phones_are_found_in_the_sound(aligner, spoken, tmp_path):
    """Those that espeak-ng spoke, whose times are known."""
    waveform, phones = spoken
    write(tmp_path / "a.wav", waveform)
    heard, found = recordings.read_aloud(recordings.Reading(tmp_path / "a.wav", TEXT, "espeak"), aligner)
    np.testing.assert_allclose(heard, waveform, atol=1e-4)
    assert tiles(found, len(waveform)) and found[0][0] == found[-1][0] == visemes.SILENCE
    assert found[0][2] == pytest.approx(0.5, abs=0.06)
    closed = [[(start + end) / 2 for name, start, end in each if name in "pbm"] for each in (phones, found)]
    assert len(closed[0]) == len(closed[1]) == 8
    assert np.abs(np.subtract(*closed)).max() < 0.09 and np.abs(np.subtract(*closed)).mean() < 0.04


def test_a_word_that_no_dictionary_has_is_pronounced(aligner):
    assert aligner.words("Blorptastic, it's 7!") == ["blorptastic", "it's", "7"]


def test_what_is_not_in_the_sound_is_not_found(aligner, spoken):
    waveform, _ = spoken
    assert aligner.align(np.zeros(SAMPLING_RATE, np.float32), TEXT) is None
    assert aligner.align(waveform, "...") is None
    assert (
        aligner.align(waveform[: SAMPLING_RATE * 7 // 10], TEXT * 4) is None
    )  # far more than can be said in that time


def test_without_the_aligner_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pocketsphinx", None)
    with pytest.raises(UserError, match=r"pip install 'eat_hf\[recordings\]', or leave --recordings out"):
        recordings.Aligner()


# Conditions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", conditions.CODECS)
def test_a_codec_changes_sound_and_no_times(spoken, codec):
    waveform, _ = spoken
    heard = conditions.through_codec(waveform, codec, 48_000)
    assert heard.shape == waveform.shape and heard.dtype == np.float32 and (heard != waveform).mean() > 0.5
    alike = [np.corrcoef(waveform[2000:-2000], np.roll(heard, shift)[2000:-2000])[0, 1] for shift in (-80, 0, 80)]
    assert alike[1] > 0.9 and max(alike) == alike[1]


def test_slower_speech_has_later_phones(spoken):
    waveform, phones = spoken
    slow, later = conditions.respeed(waveform, phones, 1.25)
    assert len(slow) == pytest.approx(1.25 * len(waveform), abs=2)
    assert later[3] == (phones[3][0], 1.25 * phones[3][1], 1.25 * phones[3][2])
    louder, quiet = (level(slow, later, kind) for kind in ("ɑæɪɛʌe", visemes.SILENCE))
    assert louder > 20 * quiet


def test_degraded_voices_are_voices_still(spoken):
    waveform, _ = spoken
    heard = [conditions.degrade(waveform, np.random.default_rng(seed)) for seed in range(12)]
    assert all(len(each) == len(waveform) and each.dtype == np.float32 and np.abs(each).max() <= 1 for each in heard)
    assert all(np.isfinite(each).all() and each.std() > 1e-4 for each in heard)
    levels = [20 * np.log10(each.std()) for each in heard]
    assert max(levels) - min(levels) > 10 and len({each.tobytes() for each in heard}) == len(heard)
    assert (conditions.degrade(waveform, np.random.default_rng(3)) == heard[3]).all()
    # where somebody speaks it is louder than where nobody does, in all but the worst of them
    half = SAMPLING_RATE // 2
    assert np.mean([each[half:-half].std() > 1.2 * each[: half - 2000].std() for each in heard]) > 0.7
    assert np.isfinite(conditions.degrade(np.zeros(8000, np.float32), np.random.default_rng(0))).all()


def test_music_is_of_unit_power_and_never_the_same():
    one, other = (conditions.music(SAMPLING_RATE, np.random.default_rng(seed)) for seed in (0, 1))
    assert one.shape == (SAMPLING_RATE,) and np.mean(one**2) == pytest.approx(1, abs=0.01) and (one != other).any()


# All of it ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader(tmp_path_factory, spoken):
    """A folder with six readings of one reader."""
    folder = tmp_path_factory.mktemp("reader")
    for number in range(6):
        write(folder / f"{number}.wav", spoken[0])
        (folder / f"{number}.txt").write_text(TEXT)
    return folder


def test_splits_share_neither_voices_nor_readings(reader):
    counts = {"espeak_clips": 30, "flite_clips": 6, "silent_clips": 8, "held_out_clips": 6}
    options = voices.VoicesOptions("none", **counts, recordings=(str(reader),), unheard=(str(reader),))
    jobs = voices.plan(options)
    assert jobs == voices.plan(options) and len({job.name for job in jobs}) == len(jobs)
    by_split = {split: [job for job in jobs if job.split == split] for split in ("train", "validation", "test")}
    for source in ("espeak", "flite"):
        names = {split: {job.voice for job in found if job.source == source} for split, found in by_split.items()}
        assert not names["train"] & names["test"] and not names["train"] & names["validation"]
    read = {split: {j.reading.path for j in found if j.reading} for split, found in by_split.items()}
    assert len(read["train"] | read["validation"]) == 6 and not read["train"] & read["validation"]
    assert sum(job.source == "silence" for job in jobs) == 10


def test_a_corpus_of_voices_is_made_and_made_again(reader, tmp_path, monkeypatch):
    pytest.importorskip("pocketsphinx", reason="pocketsphinx: pip install 'eat_hf[recordings]'")
    with_flite = shutil.which("flite") is not None
    monkeypatch.setattr(voices, "find_readings", lambda folder: recordings.find_readings(folder)[:1])
    command = ["--output", str(tmp_path), "--espeak_clips", "2", "--flite_clips", str(int(with_flite)),
               "--silent_clips", "3", "--held_out_clips", "1", "--recordings", str(reader)]  # fmt: skip
    voices.main(command)
    corpus = Corpus(tmp_path)
    clips = [clip for split in ("train", "validation", "test") for clip in corpus.clips(split=split, kind="speech")]
    sources = {clip.metadata["source"] for clip in clips}
    assert sources == {"espeak", "recording", "silence"} | ({"flite"} if with_flite else set())
    for clip in clips:
        labels, waveform = clip.labels("phonemes", "phoneme_times"), clip.waveform()
        names, times = list(map(str, labels["phonemes"])), labels["phoneme_times"]
        assert len(names) == len(times) and times[-1, 1] == pytest.approx(len(waveform) / SAMPLING_RATE, abs=0.05)
        assert (names == ["_"]) == (clip.metadata["source"] == "silence")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "clips").iterdir()}
    kept = next(path for path in made if path.suffix == ".npz")
    before = (tmp_path / "metadata.jsonl").read_text()
    voices.main(command)  # nothing is left to do
    assert made[kept] == kept.stat().st_mtime_ns and (tmp_path / "metadata.jsonl").read_text() == before
    assert json.loads((tmp_path / "corpus.json").read_text())["recordings"] == [reader.name]
