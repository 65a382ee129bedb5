"""The tab Live, in a browser whose microphone is a file."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
from conftest import voice
from PIL import Image

pytest.importorskip("gradio", reason="the web demo needs the extra eat_hf[app]")
pytest.importorskip("websockets", reason="live sessions need the extra eat_hf[serve]")

SERVER = Path(__file__).parents[1] / "app_server.py"
SLOW = 300_000  # milliseconds
RATE = 48_000
SPEAKS = 2.0, 5.0  # seconds of the microphone's file, which begins anew at its end


@pytest.fixture(scope="module")
def folder(tmp_path_factory, portrait):
    folder = tmp_path_factory.mktemp("live")
    Image.fromarray(portrait).save(folder / "face.png")
    sound = np.zeros(round(7 * RATE), np.float32)
    start, end = (round(moment * RATE) for moment in SPEAKS)
    sound[start:end] = voice(SPEAKS[1] - SPEAKS[0], RATE)
    scipy.io.wavfile.write(folder / "microphone.wav", RATE, (32_767 * sound).astype(np.int16))
    scipy.io.wavfile.write(folder / "voice.wav", RATE, (32_767 * voice(1.5, RATE)).astype(np.int16))
    return folder


@pytest.fixture(scope="module")
def address(live_model, folder, tmp_path_factory):
    command = [sys.executable, SERVER, live_model, folder / "face.png", folder / "voice.wav", "{}"]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def chromium(folder):
    playwright = pytest.importorskip("playwright.sync_api", reason="browser tests need the package playwright")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("browser tests need Chromium: `apt-get install chromium`")
    microphone = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                  f"--use-file-for-fake-audio-capture={folder / 'microphone.wav'}")  # fmt: skip
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=program, args=["--no-sandbox", *microphone])
        yield browser
        browser.close()


@contextlib.contextmanager
def visited(chromium, address, folder):
    """The tab Live with a portrait; what the page's own code complains about fails the test."""
    complaints = []
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, permissions=["microphone"])
    context.set_default_timeout(SLOW)
    page = context.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#start-make")
    page.locator("#portrait input[type=file]").set_input_files(folder / "face.png")
    page.wait_for_selector("#portrait img")
    page.get_by_role("tab", name="Live").click()
    yield page
    context.close()
    assert complaints == []


def shown(page):
    """Number and position of frames that were drawn, newest last."""
    return page.evaluate("eatLive.session ? eatLive.session.shown : null")


def test_the_face_talks_with_the_microphone_and_feels_what_is_clicked(chromium, address, folder):
    with visited(chromium, address, folder) as page:
        page.locator("#start-live").click()
        page.wait_for_function("eatLive.session && eatLive.session.shown.length > 20")
        frames = shown(page)
        # picture and sound are in step: a frame is drawn at its moment, as soon as a busy browser draws
        apart = [frame["position"] - frame["number"] / 25 for frame in frames[5:]]
        assert min(apart) >= 0 and np.median(apart) < 0.25
        numbers = [frame["number"] for frame in frames]
        assert numbers == sorted(set(numbers))
        page.locator("#live-emotion input[value=happy]").check()
        before = shown(page)[-1]["number"]
        page.wait_for_function(f"eatLive.session.shown.at(-1).number > {before + 25}")
        # two visitors at once
        with visited(chromium, address, folder) as other:
            other.locator("#start-live").click()
            other.wait_for_function("eatLive.session && eatLive.session.shown.length > 5")
            assert shown(page)[-1]["number"] > before + 25
        page.screenshot(path=folder / "live.png")
        page.locator("#stop-live").click()
        page.wait_for_function("!eatLive.session")
        assert "Press Start" in page.inner_text("#live .eat-live-status")


def test_a_voice_is_played_as_if_live(chromium, address, folder):
    with visited(chromium, address, folder) as page:
        page.locator("#voice input[type=file]").set_input_files(folder / "voice.wav")
        page.wait_for_selector("#voice button[aria-label*=Play]")
        page.locator("#live-source input[value=voice]").check()
        page.locator("#start-live").click()
        page.wait_for_function("eatLive.session && eatLive.session.shown.length > 3")
        page.wait_for_selector("#live >> text=The session is over")


def test_who_gives_no_portrait_is_told(chromium, address):
    context = chromium.new_context()
    context.set_default_timeout(SLOW)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#start-make")
    page.get_by_role("tab", name="Live").click()
    page.locator("#start-live").click()
    page.wait_for_selector("[data-testid=toast-body] >> text=Give a portrait first")
    context.close()


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
