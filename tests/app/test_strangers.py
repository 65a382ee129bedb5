"""The page before the public: wrong requests of every kind, names that are none, and visitors who want it all."""

import itertools
import json
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hub_server import Hub
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served_app import PATIENCE, Server, eventually, make_files
from strangers import Stranger, sentence

from eat_hf import EATPipeline
from eat_hf.adapters.emotion_adapter import CONFIG, MAX_EMOTIONS, EmotionAdapter
from eat_hf.errors import UserError
from eat_hf.media.bounded import JSON_BYTES
from eat_hf.names import LONGEST_NAME, as_name, check_name

pytest.importorskip("gradio", reason="the web demo needs the extra eat_hf[app]")
from eat_hf.app.door import DEPTH  # noqa: E402
from eat_hf.app.kept import MOST as KEPT  # noqa: E402
from eat_hf.app.link import LONGEST as LONGEST_LINK  # noqa: E402
from eat_hf.app.link import MOST as SETTINGS  # noqa: E402
from eat_hf.app.storage import Storage  # noqa: E402
from eat_hf.app.studio import REPOSITORY, TOKEN  # noqa: E402
from eat_hf.serving.limits import Limits  # noqa: E402
from eat_hf.serving.live_socket import ARRIVING, FIRST_SECONDS  # noqa: E402
from eat_hf.serving.telling import masked  # noqa: E402
from eat_hf.serving.turns import Pace, Turns  # noqa: E402
from eat_hf.serving.watch import Watch, timed  # noqa: E402

PATHS = ("/some/where/holiday", "../up", "a\\b", "C:holiday")
MARKUP = ("<img src=x onerror=alert(1)>", "**bold**", "[link](http://x.example)", "`code`", "&lt;")
SIGNS = ("\x1b[31mred", "a\nb", "a\x00b", "\u202eabc", "a\u2028b", "\u200d", "a=1", "a,b", "a:b", "a+b")
BAD_NAMES = (*PATHS, *MARKUP, *SIGNS, "", " ", "-a", "a ", "_", "\u0301a", "a" * (LONGEST_NAME + 1))
COUNT = itertools.count()
SPEED = {"compare": 1.0, "refine_words": 3.0}  # seconds that these endpoints may take on the test's server
quick = settings(
    max_examples=40, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def files(tmp_path_factory, portrait) -> dict[str, Path]:
    return make_files(tmp_path_factory.mktemp("files"), portrait)


@pytest.fixture(scope="module")
def server(tiny_model, files, tmp_path_factory):
    hub = Hub()
    folder = tmp_path_factory.mktemp("server")
    crowd = {"crowded_seconds": 1.0, "patience": 1.0}
    server = Server(tiny_model, files, hub, folder, work_seconds=SPEED, upload_megabytes=5, **crowd)
    yield server
    server.process.terminate()
    server.process.wait(20)
    hub.close()


@pytest.fixture(scope="module")
def stranger(server) -> Stranger:
    return Stranger(server.url)


@pytest.fixture(scope="module")
def uploads(stranger, files) -> dict[str, dict]:
    """Payloads of files that were uploaded, by name."""
    names = ("face.png", "word.wav", "held.wav", "sentence.wav")
    paths = stranger.upload(*((name, files[name].read_bytes()) for name in names))
    return {name: file(path) for name, path in zip(names, paths, strict=True)}


def file(path: str) -> dict:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def animate(uploads, **changed) -> list:
    """The inputs of /animate."""
    inputs = {
        "portrait": uploads["face.png"], "voice": uploads["word.wav"], "emotion": "happy", "intensity": 1,
        "head_motion": "natural", "driving_video": None, "picture": "crop", "seed": 0, "face": None,
        "head_amount": 1, "blinks": 1, "gaze": 1,
    }  # fmt: skip
    return list({**inputs, **changed}.values())


# Names ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_name_is_a_path_markup_or_an_escape(name, tiny_pipeline, tiny_model, tmp_path):
    adapter = EmotionAdapter.create(tiny_pipeline.base, ("smirk",), "happy")
    view = tiny_pipeline.with_adapters({})
    for enter in (
        lambda: check_name(name),
        lambda: EmotionAdapter.create(tiny_pipeline.base, (name,), "happy"),
        lambda: view.add_adapter(adapter, name),
        lambda: view.learn_emotion("a smile", "no.png", "no.wav", name),
    ):
        with pytest.raises(UserError, match="cannot be called") as told:
            enter()
        assert str(told.value).isprintable() and len(str(told.value)) < 300
    adapter.save(tmp_path)
    config = json.loads((tmp_path / CONFIG).read_text())
    (tmp_path / CONFIG).write_text(json.dumps({**config, "emotions": [name]}))
    with pytest.raises(UserError, match="emotions.0: An emotion cannot be called"):
        EATPipeline.from_pretrained(tiny_model).load_adapter(tmp_path)


@pytest.mark.parametrize("name", ["grin", "Lächeln 2", "sad-ish", "微笑", "हिन्दी", "a_b", "é", "e\u0301"])
def test_letters_of_any_script_are_names(name, tiny_pipeline):
    adapter = EmotionAdapter.create(tiny_pipeline.base, (name,), "happy")
    assert tiny_pipeline.with_adapters({}).add_adapter(adapter) == name == check_name(name)


@quick
@given(st.text(max_size=100))
def test_any_text_is_a_name_or_refused_and_has_a_nearest_name(text):
    nearest = as_name(text)
    assert nearest == "" or check_name(nearest) == nearest
    try:
        assert check_name(text) == text and not set(text) & set("/\\<>&`*[]\n\x1b.:=,+")
    except UserError as error:
        assert str(error).isprintable()


def test_a_strangers_configuration_is_bounded(tiny_pipeline, tiny_model, tmp_path):
    EmotionAdapter.create(tiny_pipeline.base, ("smirk",), "happy").save(tmp_path)
    config, pipe = json.loads((tmp_path / CONFIG).read_text()), EATPipeline.from_pretrained(tiny_model)
    for change, words in (
        ({"emotions": [f"e{n}" for n in range(100)]}, "at most 64 items"),
        ({"emotions": [f"e{n}" for n in range(100_000)]}, "more than"),
        ({"training": {"notes": "x" * 2_000_000}}, "more than 1 MB"),
        ({"base_parameters": 0}, "greater than 0"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps({**config, **change}))
        with pytest.raises(UserError, match=words):
            pipe.load_adapter(tmp_path)


# Files ---------------------------------------------------------------------------------------------------------------


def test_only_what_was_uploaded_is_read_and_the_rest_gets_one_answer(server, stranger, uploads, files, tmp_path):
    there, own = files["face.png"], uploads["face.png"]["path"]
    link = Path(own).with_name("link.png")
    link.symlink_to(there)
    paths = [
        str(there), f"{there}.not", "/etc/passwd", "/etc/shadow/none", str(tmp_path), "/proc/self/environ", "face.png",
        f"{Path(own).parent}/../../../face.png", str(Path(own).parent), f"{own}.not", str(link), "", "~",
        "file:///etc/passwd", "http://127.0.0.1:1/x.png", "https://huggingface.co/x.png", "a\x00b", "x" * 5000,
    ]  # fmt: skip
    shapes = [
        lambda path: {"path": path},
        file,
        lambda path: {"path": path, "url": path, "meta": {"_type": "gradio.FileData"}, "is_stream": True},
        lambda path: {"path": path, "url": "data:image/png;base64,AAAA", "meta": None},
        lambda path: path,
        lambda path: {"image": file(path), "background": file(path), "layers": [], "composite": None},
        lambda path: [{"image": file(path), "caption": None}],
    ]
    for name in ("portrait", "voice", "driving_video"):
        more = {"head_motion": "driving video"} if name == "driving_video" else {}
        answers = {
            sentence(stranger.ask("animate", animate(uploads, **more, **{name: shape(path)})))
            for path in paths
            for shape in (shapes if path in paths[:2] else shapes[:2])
        }
        assert len(answers) == 1 and "upload the file" in answers.pop()
    answers = {
        sentence(stranger.ask("load_adapter_files", [[shape(path)], ""]))
        for path in paths
        for shape in (shapes if path in paths[:2] else shapes[:2])
    }
    assert len(answers) == 1
    link.unlink()
    kind, _ = stranger.ask("animate", animate(uploads, portrait={"path": own}))
    assert kind == "complete"  # what was uploaded needs no more words


def test_files_and_routes_that_the_page_does_not_need_are_closed(stranger, files, server):
    for path in (
        f"file={files['face.png'].with_name('text.png')}", "file=/etc/passwd", "file=/etc/none", "file=http://127.0.0.1/",
        "proxy=http://127.0.0.1/", "component_server", "deep_link?session_hash=x", "vibe-code", "dev/reload",
        "process_recording", "run-history/buckets", "custom_component/x/client/x/x", "stream/a/b/1/playlist.m3u8",
    ):  # fmt: skip
        for method in ("GET", "POST"):
            assert stranger.http.request(method, path).status_code in (403, 404), path
    assert {stranger.http.get(f"file={path}").status_code for path in ("/etc/passwd", "/etc/none")} == {403}
    assert stranger.http.get(f"{server.url}/monitoring/summary").status_code == 404
    assert stranger.http.get(f"{server.url}/").status_code == 200


def test_uploads_are_bounded_as_a_whole(stranger, server):
    big = b"x" * 2_500_000
    refused = stranger.http.post("upload", files=[("files", (f"{n}.png", big)) for n in range(3)])
    assert refused.status_code == 413 and "5 MB" in refused.json()["error"]
    parts = iter([b"--a\r\n", *[b"x" * 1_000_000] * 8])  # does not say how long it is
    try:
        refused = stranger.http.post(
            "upload", content=parts, headers={"content-type": "multipart/form-data; boundary=a"}
        )
        assert refused.status_code in (400, 413)
    except httpx.HTTPError:
        pass  # cut off while it was still sending
    assert stranger.http.post("upload", files=[("files", ("a.png", b"x" * 4_000_000))]).status_code == 413


def test_the_oldest_files_go_first(tmp_path):
    storage = Storage(str(tmp_path), Limits(kept_megabytes=1, kept_seconds=3000))
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").write_bytes(b"x" * 300_000)
    assert not storage.has_room(100_000)  # all of them are in use
    before, time.time = time.time, lambda: before() + 200
    try:
        assert storage.has_room(600_000)
    finally:
        time.time = before
    assert sum(path.is_file() for path in tmp_path.rglob("*")) == 1


# Requests ------------------------------------------------------------------------------------------------------------


def test_every_endpoint_states_its_limits(stranger):
    """Whoever adds an endpoint adds its line to `Limits.work_seconds`, and this list says what visitors may call."""
    endpoints = stranger.info()
    assert {name.removeprefix("/") for name in endpoints} == set(Limits().work_seconds) - {
        name
        for name in ("speak",)
        if f"/{name}" not in endpoints  # without the extra eat_hf[voice]
    }
    assert all(0 < seconds <= 1200 for seconds in Limits().work_seconds.values())


def test_the_threat_model_states_the_limits_of_the_code():
    text, limits = (Path(__file__).parents[2] / "SECURITY.md").read_text(), Limits()
    stated = {}
    for row in re.findall(r"^\| work: (.*) \| (.*) \|$", text, re.MULTILINE):
        for names, seconds in zip(row[0].split("; "), row[1].split("; "), strict=True):
            stated |= {name: float(seconds.removesuffix(" s").replace(",", "")) for name in names.split(", ")}
    assert stated.pop("the page's own events") == limits.page_seconds
    assert stated == dict(limits.work_seconds)
    for row in (
        f"{limits.megabytes} MB; {limits.upload_megabytes} MB",
        f"| {limits.upload_seconds} s",
        f"{limits.kept_megabytes:,} MB, the oldest",
        f"older than {limits.kept_seconds / 60:g} min",
        f"{limits.request_kilobytes} kB; {limits.items}; {DEPTH}",
        f"{limits.seconds:g} s; {limits.side:,} x",
        f"{limits.characters}; {limits.words:,} in {limits.phrasings} lines; {limits.line:,} characters",
        f"page's address; their number | {LONGEST_LINK:,} characters; {SETTINGS} |",
        f"kept for everybody | {KEPT} |",
        f"keyframes of a timeline | {limits.keyframes} |",
        f"{limits.live_sessions}; {limits.address_live_sessions}; {limits.live_seconds / 60:g} min; "
        f"{limits.live_quiet_seconds:g} s; {limits.live_backlog:g} s |",
        f"{ARRIVING[0]}; {ARRIVING[1]}; {FIRST_SECONDS:g} s |",
        f"{limits.adapters}; {limits.adapter_megabytes} MB; {JSON_BYTES / 1e6:.0f} MB; {MAX_EMOTIONS}",
        f"adapter's folder | {limits.files} |",
        f"{limits.under_way}; {limits.address_under_way}; {limits.unnamed_under_way}; 1 |",
        f"no place became free | {limits.crowded_seconds:g} s; {limits.patience:g} s |",
        f"{limits.waiting}; {limits.visitor_waiting} |",
        f"remembered | {limits.sessions} |",
        f"up to {LONGEST_NAME} letters",
    ):
        assert row in text, row


def test_a_page_with_an_endpoint_without_limits_is_not_built(tiny_pipeline, monkeypatch):
    from eat_hf.app import build_app, page

    seconds = dict(Limits().work_seconds)
    del seconds["mix"]
    with pytest.raises(TypeError, match="/mix has no limit"):
        build_app(tiny_pipeline, Limits(work_seconds=seconds), examples=())
    import gradio as gr

    def drawing(studio, inputs, result) -> None:
        gr.Button().click(lambda picture: None, gr.Paint(), None, api_name="mix")

    monkeypatch.setattr(page, "TABS", (*page.TABS[:1], ("draw", "Draw", drawing)))
    with pytest.raises(TypeError, match="no limits for inputs of the kind Paint"):
        build_app(tiny_pipeline, examples=())


ODD = [10**400, "x" * 10_000, "\ud800", "hf_" + "a" * 30, *PATHS, *MARKUP, *SIGNS, {"path": "/etc/passwd"}]
STRANGE = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
    | st.sampled_from(ODD)
    | st.lists(st.integers(), max_size=3) | st.dictionaries(st.text(max_size=5), st.integers(), max_size=3)
)  # fmt: skip


@pytest.mark.parametrize("endpoint", sorted(Limits().work_seconds))
def test_whatever_is_asked_the_answer_is_a_result_or_a_sentence(endpoint, stranger, uploads):
    parameters = stranger.info().get(f"/{endpoint}", {}).get("parameters")
    if parameters is None:
        pytest.skip("needs the extra eat_hf[voice]")
    good = [usual(parameter, uploads) for parameter in parameters]

    @settings(parent=quick, max_examples=15)
    @given(st.data())
    def ask(data):
        inputs = list(good)
        if inputs and data.draw(st.booleans()):
            inputs[data.draw(st.integers(0, len(inputs) - 1))] = data.draw(STRANGE)
        else:
            inputs = data.draw(st.lists(STRANGE, max_size=len(good) + 2))
        answer = stranger.ask(endpoint, inputs)
        if answer[0] != "complete":
            assert "hf_" + "a" * 16 not in sentence(answer)

    ask()


def usual(parameter: dict, uploads) -> object:
    """What makes a parameter's endpoint stop before it computes anything: its portrait is a voice."""
    if parameter["parameter_name"] in ("portrait", "voice"):
        return uploads["word.wav"]
    return parameter["parameter_default"] if parameter["parameter_has_default"] else ""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("call/animate", b"no json"),
        ("call/animate", b"[" * 100_000),
        ("call/animate", b"{}"),
        ("call/animate", b'{"data": "text"}'),
        ("call/animate", json.dumps({"data": [[0] * 2000]}).encode()),
        ("call/animate", json.dumps({"data": ["x" * 1_000_000]}).encode()),
        ("call/nothing", b'{"data": []}'),
        ("call/v2/nothing", b'{"data": []}'),
        ("call/v2/animate", b'{"colour": 1}'),
        ("run/animate", b'{"data": []}'),
        ("queue/join", b'{"data": [], "fn_index": 999999, "session_hash": "x"}'),
        ("queue/join", b'{"data": [], "fn_index": {}, "session_hash": "x"}'),
    ],
    ids=lambda value: value[:30].decode() if isinstance(value, bytes) else value,
)
def test_what_is_no_request_is_refused_at_the_door(stranger, path, body):
    response = stranger.http.post(path, content=body, headers={"content-type": "application/json"})
    assert 400 <= response.status_code < 500
    assert len(str(response.json()["detail"])) > 10


def test_events_of_the_page_itself_answer_with_sentences_too(stranger, server):
    """Every event, those without a name included, by number; those that stand in the queue through it, where the ones
    with a name are tried above."""
    events = stranger.http.get(f"{server.url}/config").json()["dependencies"]
    waits = {
        event["id"]
        for event in events
        if event["queue"] is not False and event["backend_fn"] and event["api_visibility"] == "private"
    }
    happened = itertools.cycle([{"value": [], "index": {}}, {}, "x", {"index": True, "value": "x"}, [], 5])
    logged = len(server.log.read_text())
    for event in events:
        right = [None] * len(event["inputs"])
        strange = ([], ["x"], [{}] * 4, [-1], [1e300] * 5, [[]] * 2)
        for data in (right, ["x"] * len(right)) if event["id"] in waits else (right, *strange):
            body = {"data": data, "fn_index": event["id"], "event_data": next(happened)}
            if event["id"] in waits:
                answer = queued(stranger, body)
                assert answer is None or "error" not in answer or len(answer["error"] or "") > 10, (event, answer)
                continue
            response = stranger.http.post("run/predict", json={**body, "session_hash": "stranger"})
            assert response.status_code < 500 or len(response.json()["error"]) > 10, (event, response.json())
    log = server.log.read_text()[logged:]
    assert "string indices" not in log and "KeyError" not in log


def queued(stranger: Stranger, body: dict) -> dict | None:
    """What an event of the page answers in a session of its own."""
    session = f"stranger {next(COUNT)}"
    joined = stranger.http.post("queue/join", json={**body, "session_hash": session})
    if joined.status_code != 200:
        assert 400 <= joined.status_code < 500 and len(joined.json()["detail"]) > 10
        return None
    with stranger.http.stream("GET", "queue/data", params={"session_hash": session}) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return message["output"]
    raise AssertionError("the stream ended before the result")


@pytest.mark.parametrize(
    "secret", ["abc def ghi", "hf_line\nbreak", "hf_ünicode", "hf_\x1b[31m", "<b>hf_token</b>", "hf_" + "x" * 500]
)
def test_a_token_is_nowhere_whatever_it_holds(secret, server, stranger):
    for inputs in (
        ["smirk", "ada/smirk", secret, True, "cc0-1.0"],
        [None, "a/b", secret, "yes", 3],
        [secret, secret, secret],
    ):
        assert secret not in sentence(stranger.ask("push_adapter", inputs))
    assert secret not in server.log.read_text() and repr(secret)[1:-1] not in server.log.read_text()
    assert not any(secret.encode() in path.read_bytes() for path in server.folder.rglob("*") if path.is_file())
    assert masked(f"Illegal header value b'Bearer {secret}'", [secret]).count("***") == 1


def test_tokens_and_repositories_are_what_the_hub_calls_so():
    assert TOKEN.fullmatch("hf_AbC123") and not any(map(TOKEN.fullmatch, ("", "a b", "a\n", "ä", "x" * 201)))
    assert REPOSITORY.fullmatch("ada/smirk-2.b") and not any(
        map(REPOSITORY.fullmatch, ("smirk", "../smirk", "/a/b", "a/b/c", "a/..", "a/b\n", "a/<b>", "ä/b"))
    )


# Time ----------------------------------------------------------------------------------------------------------------


def test_work_ends_when_its_time_is_up_and_when_nobody_waits():
    """Loops that never look at a clock, in threads that go on to other work."""
    watch, ended = Watch(), []

    def loop():
        try:
            while True:
                sum(range(100))
        finally:
            ended.append(True)

    def endless():
        yield 1
        loop()

    for handler in (loop, endless):
        work = timed(handler, 0.5, watch, nobody, "Too slow.")
        with pytest.raises(UserError, match="Too slow"):
            list(work() or ())
    left = threading.Event()
    threading.Timer(0.5, left.set).start()
    with pytest.raises(UserError, match="Too slow"):
        timed(loop, 60, watch, lambda: (left.is_set, ()), "Too slow.")()
    assert len(ended) == 3
    assert timed(lambda: sum(range(3)), 60, watch, nobody, "")() == 3


def nobody():
    """Whose request it is, and whether they have left."""
    return lambda: False, ()


def busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(100))


def test_a_newcomer_goes_before_long_work_which_goes_on_afterwards(monkeypatch):
    """Of three at two places; the long ones are a generator, and a function that pauses where a bar would move. They do
    not end before the newcomer has finished."""
    monkeypatch.setattr("eat_hf.serving.turns.SLICE", 0.2)
    turns, watch, finished, started = Turns(2), Watch(), [], threading.Barrier(3)

    def long_work():
        started.wait()
        while not finished:
            busy(0.05)
            yield "waiting"
        yield "afterwards"

    def bar():
        return list(Pace(long_work()))

    def run(who: str, handler) -> None:
        asked = lambda: (lambda: False, (("an address",), ("an address", who)))  # noqa: E731
        made = timed(handler, PATIENCE, watch, asked, "Too slow.", turns)()
        finished.append((who, list(made)[-1]))

    threads = [threading.Thread(target=run, args=each) for each in (("a", long_work), ("b", bar))]
    for thread in threads:
        thread.start()
    started.wait()
    run("newcomer", lambda: [busy(0.4), "made"])
    for thread in threads:
        thread.join()
    assert finished[0] == ("newcomer", "made") and sorted(finished[1:]) == [("a", "afterwards"), ("b", "afterwards")]


def test_places_are_free_again_whatever_becomes_of_work(monkeypatch):
    monkeypatch.setattr("eat_hf.serving.turns.GRACE", 0.2)
    turns, watch = Turns(1), Watch()

    def run(handler, seconds=PATIENCE, gone=lambda: False):
        return timed(handler, seconds, watch, lambda: (gone, ()), "Too slow.", turns)

    def frames():
        while True:
            yield 1

    def fails():
        raise KeyError

    left_behind = run(frames)()  # nobody closes it
    assert next(left_behind) == 1
    with pytest.raises(KeyError):
        run(fails)()
    with pytest.raises(UserError, match="Too slow"):
        run(lambda: busy(PATIENCE), 0.3)()
    holds, release = threading.Event(), threading.Event()
    holding = threading.Thread(target=run(lambda: (holds.set(), release.wait())))
    holding.start()
    holds.wait()
    with pytest.raises(UserError, match="Too slow"):  # while it waits, its visitor leaves
        run(lambda: 1, gone=iter([False] * 2 + [True] * 99).__next__)()
    threading.Timer(1.5, release.set).start()
    assert run(lambda: 2, 1.0)() == 2  # waiting is no work
    holding.join()
    assert next(left_behind) == 1 and run(lambda: 3)() == 3


def test_who_had_their_share_makes_place_whatever_they_are_at():
    """Three at two places, so that some work and some wait for their turn; and one that rests between two steps."""
    turns, watch, ended = Turns(2), Watch(), []

    def frames():
        while True:
            busy(0.05)
            yield 1

    def start(who: str):
        asked = lambda: (lambda: False, ((who,), (who, "session"), (who, "request")))  # noqa: E731
        return timed(frames, 60, watch, asked, "Too slow.", turns)()

    def run(who: str) -> None:
        with pytest.raises(UserError, match="server is crowded"):
            list(start(who))
        ended.append(who)

    def within_a_while(condition) -> None:
        until = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < until
            time.sleep(0.05)

    assert not turns.send_away(0)  # there is nobody
    resting = start("resting")
    assert next(resting) == 1 and not turns.send_away(30)
    threads = [threading.Thread(target=run, args=(who,)) for who in "abc"]
    for thread in threads:
        thread.start()
    for count in (1, 2, 3):
        within_a_while(lambda: turns.send_away(0.5))
        within_a_while(lambda count=count: len(ended) == count)
    for thread in threads:
        thread.join()
    assert not turns.send_away(0.5) and turns.send_away(0.01)
    with pytest.raises(UserError, match="server is crowded"):
        next(resting)
    assert not turns.send_away(0)


def test_without_a_model_that_hears_emotions_the_timeline_stays(stranger, uploads):
    kind, (timeline, intensity) = stranger.ask("from_voice", [uploads["word.wav"], "0:sad"])
    assert (kind, timeline) == ("complete", "0:sad") and intensity.startswith("0:")


def test_too_much_is_refused_and_long_work_is_ended(server, stranger, uploads):
    many = ", ".join(f"{n / 1000}:happy" for n in range(300))
    given = [uploads["face.png"], uploads["sentence.wav"]]
    for endpoint in ("timeline", "preview_timeline"):
        assert "up to 40" in sentence(stranger.ask(endpoint, [*given, many, "1"]))
    assert "1 s, which is the limit" in sentence(stranger.ask("compare", [*given, 1, "still"]))
    assert server.leftovers() == []


def test_one_visitor_with_many_requests_fills_no_queue_and_keeps_nobody_waiting(server, stranger, uploads):
    """Of 26 requests three may be under way, twenty wait, and another's is made while none of them has ended."""
    held = animate(uploads, voice=uploads["held.wav"])
    with server.holding() as wait_until_held:
        answers = [stranger.post("animate", held) for _ in range(26)]
        accepted = [answer.json()["event_id"] for answer in answers if answer.status_code == 200]
        assert 20 <= len(accepted) <= 23 and all(answer.status_code == 200 for answer in answers[:20])
        refused = [answer.json()["detail"] for answer in answers if answer.status_code != 200]
        assert all("Too many of your requests" in words for words in refused)
        wait_until_held(1)
        assert make(server, "modest", "animate", animate(uploads)) == "happy.mp4"
        for event in accepted[3:]:  # they are waiting still
            stranger.http.post("cancel", json={"session_hash": "x", "fn_index": 0, "event_id": event})
    assert [stranger.wait("animate", event)[0] for event in accepted[:3]] == ["complete"] * 3


def make(server, session: str, endpoint: str, inputs: list) -> str:
    """Post a request in a session and wait for its result; the video's name."""
    event = Stranger(server.url).post(endpoint, inputs, session=session).json()["event_id"]
    address = f"{server.url}/gradio_api/queue/data?session_hash={session}"
    with httpx.stream("GET", address, timeout=PATIENCE) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed" and message["event_id"] == event:
                assert message["success"], message
                return Path(message["output"]["data"][0]["path"]).name
    raise AssertionError("the stream ended before the result")


def end_of(server, session: str, event: str) -> str:
    """Waits for the end of a request; what went wrong, if anything."""
    with httpx.stream("GET", f"{server.url}/gradio_api/queue/data?session_hash={session}", timeout=PATIENCE) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed" and message["event_id"] == event:
                return "" if message["success"] else message["output"]["error"]
    return "cut off"


def test_a_good_request_does_not_wait_for_long_ones(server, uploads):
    """Two that take both places, for as long as the good one is not made."""
    long = [uploads["face.png"], uploads["held.wav"], "0:happy, 0.2:sad", "1"]
    with ThreadPoolExecutor() as pool:
        with server.holding() as wait_until_held:
            made = [pool.submit(make, server, f"long {n}", "timeline", long) for n in range(2)]
            wait_until_held(2)
            assert make(server, "good", "animate", animate(uploads)) == "happy.mp4"
            assert not any(each.done() for each in made)
        assert [each.result() for each in made] == ["timeline.mp4"] * 2


@pytest.mark.slow
def test_a_newcomer_finds_a_place_though_long_requests_have_taken_all(server, stranger, uploads):
    """Eight without end, each of a session of its own, from two addresses; the newcomer comes from a third."""
    given = [uploads["face.png"], uploads["sentence.wav"], "0:happy, 1:sad", "1"]
    crowd = [(Stranger(server.url, address=f"127.0.0.{2 + n % 2}"), f"crowd {n}") for n in range(8)]
    gone = threading.Event()
    answers: list[str] = []

    def again_and_again(who: Stranger, session: str) -> None:
        while not gone.is_set():
            event = who.post("timeline", given, session=session).json()["event_id"]
            answers.append(end_of(server, session, event))

    threads = [threading.Thread(target=again_and_again, args=each) for each in crowd]
    for thread in threads:
        thread.start()
    time.sleep(1)
    newcomer = Stranger(server.url, address="127.0.0.9").post("animate", animate(uploads), session="newcomer")
    assert end_of(server, "newcomer", newcomer.json()["event_id"]) == ""
    gone.set()
    for thread in threads:
        thread.join()
    assert any("server is crowded" in answer for answer in answers), answers


def test_two_hostile_requests_do_not_delay_a_good_one(server, stranger, uploads):
    """A timeline without end, and eight videos at once: both are ended with a sentence, and the good one is served."""
    given = [uploads["face.png"], uploads["sentence.wav"]]
    many = ", ".join(f"{n / 1000}:happy" for n in range(350))
    hostile = {"preview_timeline": [*given, many, "1"], "compare": [*given, 1, "natural"]}
    events = {
        name: stranger.post(name, inputs, session=f"hostile {name}").json()["event_id"]
        for name, inputs in hostile.items()
    }
    kind, content = stranger.ask("animate", animate(uploads))
    assert kind == "complete" and content[0]["path"].endswith("happy.mp4")
    for name, event in events.items():
        sentence(stranger.wait(name, event))
    eventually(lambda: server.leftovers() == [])
