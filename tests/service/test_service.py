"""The service, as clients meet it: a process that answers over HTTP and WebSocket."""

import asyncio
import base64
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import httpx
import numpy as np
import pytest
import scipy.io.wavfile
from conftest import voice
from PIL import Image

from eat_hf.constants import FPS
from eat_hf.errors import UserError
from eat_hf.media.videos import read_video

pytest.importorskip("prometheus_client", reason="the service needs the extra eat_hf[serve]")
from starlette.responses import JSONResponse  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from eat_hf.service.metrics import Metrics  # noqa: E402
from eat_hf.service.server import Door, Frames  # noqa: E402
from eat_hf.serving.limits import Limits  # noqa: E402
from eat_hf.serving.live_socket import ARRIVING, HEADER, Places, SoundFormat, _read  # noqa: E402
from eat_hf.serving.live_stream import AT_ONCE, LiveStream  # noqa: E402

KEY = "a key of söme length"
SERVER = Path(__file__).parents[1] / "service_server.py"
RATE = 16_000


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(port, process):
    deadline = time.monotonic() + 600
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "ok":
                break
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)


@contextlib.contextmanager
def served(model, port, key=KEY, **limits):
    root = str(SERVER.parents[1])
    environment = {**os.environ, "EAT_HF_API_KEY": key, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SERVER), str(model), str(port), json.dumps(limits)]
    process = subprocess.Popen(command, env=environment)
    try:
        wait_for(port, process)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def port(live_model):
    port = free_port()
    with served(live_model, port, seconds=3, side=1000, megabytes=2, upload_megabytes=3, address_live_sessions=2):
        yield port


@pytest.fixture(scope="module")
def picture(portrait):
    file = io.BytesIO()
    Image.fromarray(portrait).save(file, "png")
    return file.getvalue()


@pytest.fixture(scope="module")
def sound():
    return (32_767 * voice(0.9)).astype("<i2")


@pytest.fixture(scope="module")
def wav(sound):
    file = io.BytesIO()
    scipy.io.wavfile.write(file, RATE, sound)
    return file.getvalue()


@pytest.fixture(scope="module")
def client(port):
    headers = {"Authorization": f"Bearer {KEY}".encode()}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=600) as client:
        yield client


@pytest.fixture(scope="module")
def called(live_pipeline, portrait, sound):
    return live_pipeline(portrait, (sound, RATE), "happy", generator=3, size=256).frames


@contextlib.contextmanager
def begun(port, picture, **options):
    """A live session, and the first message that came."""
    described = {"image": base64.b64encode(picture).decode(), "sampling_rate": RATE, "seed": 3, "key": KEY, **options}
    address = f"ws://127.0.0.1:{port}/v1/live"
    with connect(address, max_size=None, open_timeout=600, ping_timeout=None, close_timeout=1) as live:
        live.send(json.dumps(described))
        yield live, json.loads(live.recv(600))


def say(live, sound, wishes=()):
    """Sound, faster than it would be spoken, and wishes at its end -> frames by number, and messages."""
    frames, messages = {}, []
    for at in range(0, len(sound), RATE // 10):
        live.send(sound[at : at + RATE // 10].tobytes())
        time.sleep(0.02)
    for wish in (*wishes, {"type": "finish"}):
        live.send(json.dumps(wish))
    with contextlib.suppress(ConnectionClosed):
        while True:
            message = live.recv(600)
            if isinstance(message, str):
                messages.append(json.loads(message))
                continue
            number, dropped, _ = HEADER.unpack(message[: HEADER.size])
            frames[number] = cv2.imdecode(np.frombuffer(message[HEADER.size :], np.uint8), cv2.IMREAD_COLOR_RGB)
    return frames, messages


def alike(a, b, least=0.97):
    return np.corrcoef(a.ravel().astype(float), b.ravel().astype(float))[0, 1] > least


def test_a_video_is_that_of_one_call(client, picture, wav, called, tmp_path):
    files = {"image": picture, "audio": wav}
    answer = client.post("/v1/videos", files=files, data={"emotion": "happy", "seed": "3", "size": "256"})
    assert answer.status_code == 200 and answer.headers["content-type"] == "video/mp4", answer.text
    (tmp_path / "video.mp4").write_bytes(answer.content)
    frames = np.stack(list(read_video(tmp_path / "video.mp4")))
    assert frames.shape == called.shape and alike(frames, called, 0.9)  # H.264 halves the colours' resolution


def test_frames_come_as_they_are_made(client, picture, wav, called):
    data = {"emotion": "happy", "seed": "3", "size": "256", "output": "frames"}
    answer = client.post("/v1/videos", files={"image": picture, "audio": wav}, data=data)
    parts = answer.content.split(b"--frame")[1:-1]
    frames = [cv2.imdecode(np.frombuffer(part.partition(b"\r\n\r\n")[2], np.uint8), cv2.IMREAD_COLOR) for part in parts]
    assert alike(np.stack(frames)[..., ::-1], called)


def test_live_frames_are_those_of_one_call(port, picture, sound, called):
    with begun(port, picture, emotion="happy") as (live, first):
        assert first == {"type": "ready", "latency": first["latency"], "fps": FPS, "width": 256, "height": 256}
        frames, messages = say(live, sound)
    assert messages[-1]["type"] == "finished" and messages[-1]["frames"] == len(called)
    assert len(frames) + messages[-1]["dropped"] == len(called) and len(frames) >= 12
    for number, frame in frames.items():
        assert alike(frame, called[number])


def test_two_talk_at_once_and_a_third_is_told_to_wait(port, picture, sound, called):
    with begun(port, picture, emotion="happy") as (one, first), begun(port, picture, emotion="happy") as (two, second):
        assert first["type"] == second["type"] == "ready"
        with begun(port, picture) as (_, third):
            assert third["type"] == "error" and "requests" in third["detail"]
        with ThreadPoolExecutor() as pool:
            wish = {"type": "set", "intensity": 0.5}
            found = list(pool.map(lambda live: say(live, sound, [wish]), (one, two)))
    for frames, messages in found:
        assert [message["type"] for message in messages] == ["set", "finished"]
        first = min(frames)  # a busy machine leaves frames out
        assert alike(frames[first], called[first])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"key": "another"}, "key"),
        ({"key": 5}, "key"),
        ({"key": "\ud800"}, "key"),
        ({"image": "???"}, "base64"),
        ({"image": base64.b64encode(b"no picture").decode()}, "picture|portrait"),
        ({"sampling_rate": 3}, "sampling_rate"),
        ({"channels": 3}, "channels"),
        ({"channels": 1.0}, "channels"),
        ({"paste_back": "no"}, "paste_back"),
        ({"emotion": "joy"}, "joy"),
        ({"emotion": 5}, "emotion"),
        ({"head_motion": "/etc/passwd"}, "natural or still"),
        ({"size": 77}, "size"),
        ({"blinks": 7}, "blinks"),
        ({"emotion_text": {"a": 1}}, "emotion_text"),
        ({"strange": 1}, "strange"),
        ({"seed": -1}, "seed"),
    ],
)
def test_mistakes_of_a_live_session_are_one_sentence(port, picture, change, words):
    with begun(port, picture, **change) as (_, first):
        assert first["type"] == "error"
        assert re.search(words, first["detail"]) and "/tmp" not in first["detail"]


def test_mistakes_within_a_live_session_end_it(port, picture):
    for wrong in (b"123", bytes(2 * RATE + 2), "no json", json.dumps({"type": "dance"})):
        with begun(port, picture) as (live, first):
            assert first["type"] == "ready"
            live.send(wrong)
            assert json.loads(live.recv(600))["type"] == "error"


def test_who_describes_no_session_keeps_few_places(port):
    with contextlib.ExitStack() as silent:
        for _ in range(ARRIVING[1]):
            silent.enter_context(connect(f"ws://127.0.0.1:{port}/v1/live", open_timeout=600))
        with connect(f"ws://127.0.0.1:{port}/v1/live", open_timeout=600) as one_more:
            assert "about to begin" in json.loads(one_more.recv(600))["detail"]


def test_mistakes_of_a_video_are_one_sentence(client, picture, wav):
    files = {"image": picture, "audio": wav}
    for data, words in [
        ({"emotion": "joy"}, "joy"),
        ({"head_motion": "../motion.safetensors"}, "natural or still"),
        ({"intensity": "9"}, "intensity"),
        ({"size": "3"}, "size"),
        ({"output": "gif"}, "output"),
        ({"emotion": "x" * 5000}, "characters"),
        ({"seed": "x"}, "seed"),
    ]:
        answer = client.post("/v1/videos", files=files, data=data)
        assert answer.status_code in (400, 422) and words in answer.json()["detail"], data
    for name, content in [("image", b"no picture"), ("audio", b"no sound"), ("audio", b"")]:
        answer = client.post("/v1/videos", files={**files, name: content})
        assert answer.status_code == 400 and "/" not in answer.json()["detail"], answer.text
    assert client.post("/v1/videos", files={"image": picture}).status_code == 422
    assert client.post("/v1/videos", files={**files, "audio": bytes(4_000_000)}).status_code == 413

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        for _ in range(50):
            yield bytes(100_000)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/v1/videos", content=endless(), headers=kind).status_code == 413


def test_what_the_service_says_of_itself(client, port):
    assert client.get("/v1/emotions").json()["emotions"][4] == "happy"
    described = client.get("/openapi.json").json()
    assert {"/v1/videos", "/v1/emotions", "/health", "/metrics"} <= described["paths"].keys()
    assert "WebSocket /v1/live" in described["info"]["description"]
    assert client.get("/docs").status_code == 200
    counted = client.get("/metrics").text
    assert 'eat_hf_requests_total{route="/v1/emotions",status="200"}' in counted and "eat_hf_live_sessions" in counted
    for path in ("/v1/emotions", "/metrics"):
        answer = httpx.get(f"http://127.0.0.1:{port}{path}")
        assert answer.status_code == 401 and "key" in answer.json()["detail"]
    assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200


def test_killed_midway_it_comes_back(live_model, picture, sound):
    port = free_port()
    command = [sys.executable, "-m", "eat_hf.cli", "serve", "--model", str(live_model), "--port", str(port)]
    environment = {**os.environ, "EAT_HF_API_KEY": KEY, "OMP_NUM_THREADS": "1"}
    headers = {"Authorization": f"Bearer {KEY}".encode()}
    for ending in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            assert process.stdout.readline().strip() == f"http://127.0.0.1:{port}"
            wait_for(port, process)
            known = httpx.get(f"http://127.0.0.1:{port}/v1/emotions", headers=headers)
            assert "happy" in known.json()["emotions"]
            if ending == signal.SIGKILL:
                taken = subprocess.run(command, capture_output=True, text=True)
                assert taken.returncode == 2 and "choose another" in taken.stderr and taken.stderr.count("\n") == 1
            with begun(port, picture) as (live, first):
                assert first["type"] == "ready"
                live.send(sound[: RATE // 2].tobytes())
                process.send_signal(ending)
                with pytest.raises(ConnectionClosed):
                    while True:
                        live.recv(600)
            ended = process.wait(600)
            if ending == signal.SIGKILL:
                assert ended == -signal.SIGKILL
            else:
                assert ended == 128 + signal.SIGTERM and process.stderr.read().strip() == "interrupted"
        finally:
            process.kill()
            process.wait()


# The stream, and the door, without a server


async def never():
    await asyncio.Event().wait()


def test_a_live_session_in_which_nothing_comes_is_over():
    limits = Limits(live_quiet_seconds=0.05)
    with pytest.raises(UserError, match="Nothing came for 0.05 s"):
        asyncio.run(_read(SimpleNamespace(receive=never), None, SoundFormat(RATE, 1), limits))


def test_frames_that_nobody_takes_free_their_place():
    """The client had left before the first of them was sent."""
    places, kept, left = Places(1, 1, "full", "many"), contextlib.ExitStack(), threading.Event()
    kept.enter_context(places.one("an address"))

    async def gone():
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    frames = Frames(b"a frame", iter(()), left, kept)
    asyncio.run(frames({"type": "http"}, gone, send))
    assert left.is_set()
    with places.one("an address"):
        pass


def test_bodies_arrive_in_time_and_few_at_once():
    service = SimpleNamespace(
        limits=Limits(upload_seconds=0.3), metrics=Metrics(), check_key=lambda key: None,
        uploads=Places(1, 1, "full", "many"),
    )  # fmt: skip
    scope = {"type": "http", "method": "POST", "path": "/v1/videos", "headers": [], "client": ("an address", 1)}

    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        assert (await receive())["type"] == "http.disconnect"
        await JSONResponse({})(scope, receive, send)

    async def ask(receive):
        answers = []

        async def send(message):
            answers.append(message)

        await Door(app, service)(scope, receive, send)
        return answers[0]["status"]

    def body(*pieces, pause=0.0, stays=0.0):
        messages = [{"type": "http.request", "body": piece, "more_body": piece != b""} for piece in pieces]

        async def receive():
            await asyncio.sleep(pause if messages else stays)
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        return receive

    async def visit():
        at_once = await asyncio.gather(ask(never), ask(body(b"a", b"")))
        # what follows the body, such as waiting for the client to leave, has no limit of time, and no place
        return *at_once, await ask(body(b"a", b"", pause=0.5)), await ask(body(b"a", b"", stays=0.5))

    assert asyncio.run(visit()) == (408, 429, 408, 200)


class Watched:
    """A session that renders nothing, but remembers what it was asked for."""

    def __init__(self, slow=0.0):
        self.frames, self.slow, self.heard, self.rendered = 0, slow, 0, []

    def hear(self, samples, rate):
        self.heard += samples.shape[1]
        return self._plan(int(self.heard / rate * FPS) - self.frames)

    def hear_end(self):
        return self._plan(3)

    def _plan(self, count):
        first, self.frames = self.frames, self.frames + count
        return Numbers(range(first, first + count))

    def render(self, numbers):
        self.rendered += [*numbers]
        time.sleep(self.slow * len(numbers))
        return np.zeros((len(numbers), 64, 64, 3), np.uint8)


class Numbers(list):
    def only(self, places):
        return Numbers(self[place] for place in places)


def test_a_stream_hears_all_and_leaves_frames_out():
    session, shown = Watched(), []
    stream = LiveStream(session, RATE, shown.append)
    for _ in range(100):  # 2 s at once
        stream.push(np.zeros((1, 320), np.float32))
    stream.finish()
    stream.run()
    assert session.heard == 32_000 and session.frames == 53
    assert [frame.number for frame in shown] == session.rendered == [0, 12, 24, 37, 49, 50, 51, 52]
    assert (stream.made, stream.dropped) == (AT_ONCE + 3, 45) and shown[-1].dropped == 45


def test_nothing_waits_without_limit():
    shown, go = [], threading.Event()

    def show(frame):
        go.wait()
        shown.append(frame)

    stream = LiveStream(Watched(), RATE, show, backlog=0.5)
    running = threading.Thread(target=stream.run)
    running.start()
    pushed = 0
    while stream.has_room() and pushed < 100:
        stream.push(np.zeros((1, 1600), np.float32))
        pushed += 1
        time.sleep(0.01)
    assert pushed < 100
    go.set()
    assert stream.has_room(600)
    stream.stop()
    running.join()
