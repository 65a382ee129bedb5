"""Whatever stands on the command line or in a manifest: a result, or one sentence."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eat_hf.cli.jobs import FailedJob, Job, check, read_manifest
from eat_hf.constants import EMOTIONS
from eat_hf.errors import UserError, visible
from eat_hf.inputs.emotions import EmotionTrack, parse_emotion, parse_intensity, parse_timeline

quickly = settings(
    derandomize=True, max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NUMBERS = st.one_of(st.floats().map(str), st.integers().map(str), st.sampled_from(["", "x", "1_0", "\uff11", "1e999"]))
NAMES = st.one_of(st.sampled_from([*EMOTIONS, "", "joyful", " happy "]), st.text(max_size=5))
MIXTURES = st.one_of(
    NAMES, st.lists(st.tuples(NAMES, NUMBERS).map("=".join), max_size=3).map(",".join), st.text(max_size=20)
)
TIMELINES = st.lists(st.tuples(NUMBERS, MIXTURES).map(":".join), max_size=4).map(",".join)
CURVES = st.one_of(NUMBERS, st.lists(st.tuples(NUMBERS, NUMBERS).map(":".join), max_size=4).map(",".join))
CELLS = st.one_of(st.text(max_size=8), NUMBERS, MIXTURES, st.sampled_from(["face.png", "voice.wav", "a.mp4", "b.mp4"]))
COLUMNS = ["image", "audio", "output", "emotion", "timeline", "intensity", "face", "seed", "paste_back", "head_motion"]


def one_sentence(error):
    shown = visible(str(error))
    return shown.endswith(".") and len(shown) < 2000 and "Error" not in shown


@quickly
@given(MIXTURES, TIMELINES, CURVES, st.booleans())
def test_emotions_and_intensity(mixture, timeline, curve, by_time):
    try:
        emotion = parse_timeline(timeline) if by_time else parse_emotion(mixture)
        track = EmotionTrack.create(emotion, parse_intensity(curve), EMOTIONS)
    except UserError as error:
        assert one_sentence(error)
        return
    weights = track.weights(50, EMOTIONS)
    assert weights.shape == (50, len(EMOTIONS)) and abs(weights.sum(1) - 1).max() < 1e-4
    assert abs(weights).max() <= 1.5 + 1e-4


@quickly
@given(
    st.lists(st.floats(0, 1.5, exclude_min=True), min_size=1, max_size=8),
    st.lists(st.integers(0, 8640).map(lambda n: n / 10), min_size=1, max_size=8, unique=True),
)
def test_what_is_written_is_what_is_read(values, times):
    mixture = {name: round(value, 6) + 0.1 for name, value in zip(EMOTIONS, values, strict=False)}
    assert parse_emotion(",".join(f"{name}={weight}" for name, weight in mixture.items())) == mixture
    timeline = [(time, EMOTIONS[n % len(EMOTIONS)]) for n, time in enumerate(times)]
    assert parse_timeline(",".join(f"{time}:{name}" for time, name in timeline)) == timeline
    curve = [(time, values[n % len(values)]) for n, time in enumerate(times)]
    assert parse_intensity(",".join(f"{time}:{value}" for time, value in curve)) == curve


def looked_at(path):
    """Lines of a manifest by what they are; or the sentence in place of them."""
    try:
        lines = read_manifest(path)
    except UserError as error:
        assert one_sentence(error)
        return error
    for line in lines:
        if isinstance(line, FailedJob):
            assert one_sentence(line.error)
            continue
        assert isinstance(line, Job)
        try:
            check(line, EMOTIONS)
        except UserError as error:
            assert one_sentence(error)
    return lines


@quickly
@given(st.binary(max_size=200))
def test_any_file_as_a_manifest(tmp_path, content):
    (tmp_path / "jobs.csv").write_bytes(content)
    looked_at(tmp_path / "jobs.csv")


@quickly
@given(st.lists(st.lists(CELLS, max_size=11), max_size=5), st.sampled_from(",;\t"), st.permutations(COLUMNS))
def test_any_lines_below_known_columns(tmp_path, rows, delimiter, columns):
    text = "\n".join(delimiter.join(row) for row in [columns, *rows])
    (tmp_path / "jobs.csv").write_bytes(text.encode("utf-8", "surrogatepass"))
    looked_at(tmp_path / "jobs.csv")


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"]
PLAIN = st.text("abcXYZ0189 ._-äöüßé", min_size=1, max_size=12).map(str.strip).filter(lambda name: name.strip("."))


@pytest.mark.parametrize("encoding", ENCODINGS)
@quickly
@given(
    names=st.lists(st.tuples(PLAIN, PLAIN, PLAIN), min_size=1, max_size=5, unique_by=lambda line: line[2]),
    delimiter=st.sampled_from(",;\t"),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    pad=st.sampled_from(["", " ", "  "]),
    empty=st.booleans(),
)
def test_a_manifest_means_the_same_in_every_form(tmp_path, encoding, names, delimiter, ending, pad, empty):
    rows = [("image", "audio", "output"), *names]
    lines = [(delimiter + pad).join(row) for row in rows] + [delimiter * 2] * empty
    (tmp_path / "jobs.csv").write_bytes((ending.join(lines) + ending).encode(encoding))
    jobs = looked_at(tmp_path / "jobs.csv")
    found = [(job.image.name, job.audio.name, job.output.name) for job in jobs]
    assert found == names


@quickly
@given(st.text())
def test_what_is_shown_is_printable(text):
    shown = visible(text)
    assert shown.isprintable() and visible(shown) == shown
    shown.encode("utf-8")  # no lone surrogate
    assert shown == text or not text.isprintable()
