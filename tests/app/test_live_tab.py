"""The tab Live, in a browser whose microphone is a file: what the page sends, plays and shows."""

import base64
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io.wavfile
import scipy.signal

from eat_hf.constants import FPS
from eat_hf.inputs.faces import detect_faces
from eat_hf.inputs.landmarks import five_points, read_landmarks

pytest.importorskip("gradio", reason="the web demo needs the extra eat_hf[app]")
pytest.importorskip("websockets", reason="live sessions need the extra eat_hf[serve]")

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "checkpoints_card" / "eat-demo"  # whose mouth opens
FACE = ROOT / "examples" / "portrait.png"
SERVER = ROOT / "tests" / "app_server.py"
WITNESS = Path(__file__).with_name("live_witness.js")
SLOW = 300_000  # milliseconds
RATE = 48_000
SPEAKS, PERIOD = (1.5, 3.0), 5.0  # seconds of the microphone's file, which begins anew at its end
IN_STEP = 0.08  # seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Recordings: one of the bundled voice, the same amid silence, and silence."""
    folder = tmp_path_factory.mktemp("live")
    rate, speech = scipy.io.wavfile.read(ROOT / "examples" / "speech.wav")
    speech = scipy.signal.resample_poly(speech[rate // 2 : rate // 2 + 2 * rate].astype(float), RATE, rate)
    speech = speech[: round((SPEAKS[1] - SPEAKS[0]) * RATE)]
    sound = np.zeros(round(PERIOD * RATE))
    sound[round(SPEAKS[0] * RATE) :][: len(speech)] = speech
    for name, samples in {"voice": speech, "microphone": sound, "silence": 0 * sound}.items():
        scipy.io.wavfile.write(folder / f"{name}.wav", RATE, samples.astype(np.int16))
    return folder


@pytest.fixture(scope="module")
def address(folder):
    command = [sys.executable, SERVER, MODEL, FACE, folder / "voice.wav", "{}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def launched(folder):
    """Starts a browser whose microphone is a recording."""
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need the package playwright")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("browser tests need Chromium: `apt-get install chromium`")
    with playwright.sync_playwright() as started, contextlib.ExitStack() as browsers:

        def launch(recording):
            microphone = f"--use-file-for-fake-audio-capture={folder / recording}"
            arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", microphone]
            browser = started.chromium.launch(executable_path=program, args=arguments)
            browsers.callback(browser.close)
            return browser

        yield launch


@pytest.fixture(scope="module")
def chromium(launched):
    return launched("microphone.wav")


@contextlib.contextmanager
def visited(chromium, address, permissions=("microphone",), face=FACE):
    """The tab Live with a portrait; what the page's own code complains about fails the test."""
    complaints = []
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, permissions=permissions)
    context.set_default_timeout(SLOW)
    context.add_init_script(path=WITNESS)
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#portrait img")  # the example's
    if face is not None:
        page.locator("#portrait button[aria-label='Remove Image']").click()
        page.locator("#portrait input[type=file]").set_input_files(face)
        page.wait_for_selector("#portrait img")
    page.get_by_role("tab", name="Live").click()
    yield page
    context.close()
    assert complaints == []


# What the witness saw -------------------------------------------------------------------------------------------------


def seen_until(page, seconds):
    """Sound that was sent, and frames that were drawn, up to the one of that time."""
    page.wait_for_function(f"witness.frames.length && witness.frames.at(-1).number > {seconds * FPS}")
    seen = page.evaluate("witness")
    return np.array(seen["sent"], np.float64), seen["frames"]


def newest(page):
    """Number of the frame that is shown."""
    return page.evaluate("eatLive.session.newest")


def heard_at(frame, sent):
    """Seconds of the sound that the loudspeaker had played when a frame was drawn: what it was given last is searched
    for in what was sent. None amid silence, and while the sound is stretched."""
    heard, sent = 32_768 * np.array(frame["heard"]), sent[: frame["sent"]]
    energy = heard @ heard
    if energy < 200.0**2 * len(heard):
        return None
    alike = scipy.signal.correlate(sent, heard, "valid")
    sums = np.concatenate([[0], np.cumsum(sent**2)])
    alike /= np.sqrt(energy * np.maximum(sums[len(heard) :] - sums[: -len(heard)], energy / 4))
    best = int(alike.argmax())
    return (best + len(heard)) / frame["rate"] - frame["late"] if alike[best] > 0.95 else None


def spoken(sent, rate):
    """Seconds at which it begins and ends, of each time that the microphone's file speaks."""
    loud = np.flatnonzero(np.abs(sent) > 1000) / rate
    begins = np.flatnonzero(np.diff(loud, prepend=-9) > 1)
    return [(loud[a], loud[b - 1]) for a, b in itertools.pairwise([*begins, len(loud)])]


def mouths(frames, *moments, most=6):
    """How far the mouth is open and how wide it is on the canvas, (n, 2) in distances of the outer eye corners, in some
    of the frames of moments (from, to)."""
    found = [frame for frame in frames if any(a <= frame["number"] / FPS <= b for a, b in moments)]
    measured, five = [], None
    for place in np.linspace(0, len(found) - 1, min(most, len(found))).astype(int):
        file = np.frombuffer(base64.b64decode(found[place]["picture"]), np.uint8)
        picture = cv2.imdecode(file, cv2.IMREAD_COLOR_RGB)
        five = five_points(detect_faces(picture)[0].landmarks) if five is None else five
        eye, other, left, right, upper, lower = read_landmarks(picture, five).landmarks[[36, 45, 48, 54, 62, 66]]
        lengths = np.linalg.norm([upper - lower, left - right], axis=1)
        measured.append(lengths / np.linalg.norm(eye - other))
    return np.array(measured).reshape(-1, 2)


# Tests ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow  # in real time: needs a core of its own
def test_the_mouth_follows_the_microphone_in_step_and_the_face_the_click(chromium, address, folder):
    with visited(chromium, address) as page:
        page.locator("#live-source input[value=heard]").check()
        page.locator("#start-live").click()
        for cycle in itertools.count(1):  # a busy machine shows few frames
            sent, frames = seen_until(page, cycle * PERIOD)
            times = spoken(sent, RATE)
            before = mouths(frames, *((begin - 1, begin - 0.3) for begin, _ in times))
            while_speaking = mouths(frames, *((begin, begin + 1) for begin, _ in times), most=12)
            after = mouths(frames, *((end + 0.3, end + 1) for _, end in times))
            if min(map(len, (before, while_speaking, after))) >= 3:
                break
        shut = np.median(before[:, 0])
        assert while_speaking[:, 0].max() > 2.5 * shut and before[:, 0].max() < 1.5 * shut
        assert after[:, 0].max() < 1.5 * shut
        apart = [heard - frame["number"] / FPS for frame in frames if (heard := heard_at(frame, sent)) is not None]
        assert len(apart) >= 5 and np.quantile(np.abs(apart), 0.95) <= IN_STEP, apart
        numbers = [frame["number"] for frame in frames]
        assert numbers == sorted(set(numbers))
        # another visitor; each has the face that was clicked
        with visited(chromium, address) as other:
            other.locator("#start-live").click()
            other.wait_for_function("witness.frames.length > 2")
            page.locator("#live-emotion input[value=happy]").check()
            clicked, waits = newest(page) / FPS, page.evaluate("eatLive.session.wait.to")
            smiles = clicked + waits + 1, clicked + waits + 2
            _, frames = seen_until(page, smiles[1])
            happy, neutral = mouths(frames, smiles)[:, 1], mouths(seen_until(other, 1)[1], (0, 99))[:, 1]
            assert happy.min() > 1.1 * np.median(before[:, 1]) > 1.05 * neutral.min()
        page.screenshot(path=folder / "live.png")
        page.locator("#stop-live").click()
        page.wait_for_function("!eatLive.session")
        assert "Press Start" in page.inner_text("#live .eat-live-status")


@pytest.mark.slow  # in real time: needs a core of its own
def test_without_sound_the_mouth_stays_shut(launched, address):
    with visited(launched("silence.wav"), address) as page:
        page.locator("#start-live").click()
        open_, _ = mouths(seen_until(page, 2.5)[1], (0, 2.5), most=12).T
        assert len(open_) >= 3 and open_.max() < 1.5 * np.median(open_)


def test_a_voice_is_played_as_if_live(chromium, address, folder):
    """On a server that is so busy that the voice could be over before its first frame is there."""
    held, busy = [], [True]

    def delay(socket):
        def pass_on(message):
            if busy[0] and (held or isinstance(message, bytes)):
                held.append((socket, message))
            else:
                socket.send(message)

        socket.connect_to_server().on_message(pass_on)

    with visited(chromium, address) as page:
        page.route_web_socket("**/live", delay)
        page.locator("#voice button[aria-label=Clear]").click()
        page.locator("#voice input[type=file]").set_input_files(folder / "voice.wav")
        page.wait_for_selector("#voice button[aria-label*=Play]")
        page.locator("#live-source input[value=voice]").check()
        page.locator("#start-live").click()
        page.wait_for_selector("#live >> text=Speak.")
        page.wait_for_timeout(1000 * (SPEAKS[1] - SPEAKS[0] + 1.5))
        busy[0] = False
        for socket, message in held:
            socket.send(message)
        page.wait_for_selector("#live >> text=The voice is over")
        seen = page.evaluate("witness")
        assert SPEAKS[1] - SPEAKS[0] <= len(seen["sent"]) / seen["frames"][0]["rate"] < SPEAKS[1] - SPEAKS[0] + 0.3
        assert 0 < seen["frames"][-1]["number"] / FPS <= 1.6  # a busy machine leaves frames out


def test_who_gives_no_microphone_or_no_portrait_is_told(chromium, address):
    with visited(chromium, address, permissions=()) as page:
        page.locator("#start-live").click()
        page.wait_for_selector("#live >> text=does not give the microphone")
        page.locator("#portrait button[aria-label='Remove Image']").click()
        page.locator("#start-live").click()
        page.wait_for_selector("[data-testid=toast-body] >> text=Give a portrait first")


def test_other_pages_and_old_tokens_are_refused(address):
    from websockets.exceptions import ConnectionClosed, InvalidStatus
    from websockets.sync.client import connect

    place = address.replace("http", "ws").rstrip("/")
    with connect(f"{place}/live", open_timeout=300) as live:
        live.send('{"token": "guessed", "sampling_rate": 16000}')
        assert "over" in live.recv(300)
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        with connect(f"{place}/live", origin="https://elsewhere.example", open_timeout=300) as live:
            live.recv(300)
    with pytest.raises((InvalidStatus, ConnectionClosed, EOFError)):
        with connect(f"{place}/gradio_api/other", open_timeout=300) as live:
            live.recv(300)
