"""Settings in the page's address, and what is kept of the examples."""

import threading
from pathlib import Path

import pytest

from eat_hf.errors import UserError

gr = pytest.importorskip("gradio", reason="the web demo needs the extra eat_hf[app]")
from eat_hf.app.kept import MOST, Kept  # noqa: E402
from eat_hf.app.link import LONGEST, Link  # noqa: E402
from eat_hf.app.studio import Example, Made  # noqa: E402

EXAMPLES = [Example(Path("ada.png"), Path("speech.wav"), "happy"), Example(Path("bob.png"), Path("speech.wav"), "sad")]


@pytest.fixture(scope="module")
def link():
    link = Link()
    emotion = gr.Radio([("Happy", "happy"), ("Sad", "sad")])
    link.add("make", emotion=emotion, intensity=gr.Slider(0, 1.5), seed=gr.Number(minimum=0))
    link.add("words", words=gr.Textbox(max_length=20), intensity=gr.Slider(0, 1))
    return link


def test_an_address_holds_the_settings_of_one_tab(link):
    nothing = link.read("", EXAMPLES)
    assert (nothing.tab, nothing.example, nothing.values) == ("make", None, {})
    asked = link.read("?example=bob&emotion=sad&intensity=1.25&seed=3&words=no&__theme=dark", EXAMPLES)
    assert asked.example == 1 and asked.values == {"emotion": "sad", "intensity": 1.25, "seed": 3}
    assert link.updates(asked.tab, asked.values)[:3] == ["sad", 1.25, 3]
    asked = link.read("?tab=words&words=a+broad%20smile&intensity=0.5", EXAMPLES)
    assert asked.values == {"words": "a broad smile", "intensity": 0.5}
    assert link.updates(asked.tab, asked.values)[3:] == ["a broad smile", 0.5]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("?emotion=glad", "emotion is one of happy, sad, not 'glad'"),
        ("?intensity=1.6", "intensity is a number from 0 to 1.5"),
        ("?intensity=nan", "intensity is a number"),
        ("?tab=words&intensity=1.2", "from 0 to 1"),
        ("?seed=-1", "seed is a whole number"),
        ("?seed=1.5", "seed is a whole number"),
        ("?seed=1e400", "seed is a whole number"),
        ("?tab=words&words=" + "a" * 21, "text of up to 20"),
        ("?tab=attic", "tab is one of make, words"),
        ("?example=/etc/passwd", "example is one of ada, bob"),
        ("?emotion=" + "a" * LONGEST, "characters of settings"),
        ("?" + "&".join(f"a{n}=1" for n in range(99)), "more than 40 settings"),
    ],
)
def test_what_an_address_cannot_ask_for_is_one_sentence(link, address, words):
    with pytest.raises(UserError, match=words) as told:
        link.read(address, EXAMPLES)
    assert len(str(told.value)) < 200


def test_no_address_sets_a_file():
    with pytest.raises(TypeError, match="Image"):
        Link().add("make", portrait=gr.Image())


def steps(tmp_path, log=None, gate=None):
    """Three steps and a video, as the studio makes them."""

    def make():
        for done in range(3):
            if gate is not None:
                gate.wait(20)
            yield Made(None, done, 3)
        path = tmp_path / "made.mp4"
        path.write_bytes(b"video")
        if log is not None:
            log.append("made")
        yield Made(None, 3, 3, path)

    return make


def test_an_examples_video_is_made_once(tmp_path):
    kept, log = Kept(), []
    assert kept.find("ada happy") is None
    first = list(kept.video("ada happy", "happy.mp4", steps(tmp_path, log)))
    again = list(kept.video("ada happy", "happy.mp4", steps(tmp_path, log)))
    assert len(first) == 4 and len(again) == 1 and log == ["made"]
    assert again[0].video.name == "happy.mp4" and kept.find("ada happy").read_bytes() == b"video"
    for n in range(MOST):
        list(kept.video(f"{n}", "happy.mp4", steps(tmp_path)))
    assert kept.find("ada happy") is None and not again[0].video.exists() and kept.find("0")


def test_who_reads_a_kept_video_has_the_whole_of_it(tmp_path):
    """Though another visitor has made the same once more meanwhile."""
    kept = Kept()

    def make(content):
        path = tmp_path / "made.mp4"
        path.write_bytes(content)
        yield Made(None, 3, 3, path)

    list(kept.video("key", "happy.mp4", lambda: make(b"1")))
    with kept.find("key").open("rb") as reading:
        list(kept._make("key", "happy.mp4", lambda: make(b"2")))  # it had begun before the first had ended
        assert reading.read() == b"1" and kept.find("key").read_bytes() == b"2"


def test_who_comes_while_it_is_made_ahead_watches(tmp_path):
    kept, log, gate = Kept(), [], threading.Event()
    ahead = threading.Thread(target=kept.make_ahead, args=("key", "happy.mp4", steps(tmp_path, log, gate)))
    ahead.start()
    while "key" not in kept._under_way:
        pass
    watched = kept.video("key", "happy.mp4", steps(tmp_path, log))
    threading.Timer(0.1, gate.set).start()
    assert list(watched)[-1].video and log == ["made"]
    ahead.join()
