"""A live session over a WebSocket: sound in, frames out, in step with a client that may be slow, gone or strange."""

import asyncio
import contextlib
import json
import struct
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket
from starlette.websockets import WebSocketDisconnect as Disconnect

from ..constants import FPS
from ..errors import UserError, shown
from ..media.containers import SAMPLING_RATES
from ..pipeline.live import LiveSession
from .limits import Limits
from .live_stream import LiveFrame, LiveStream
from .telling import masked, told

QUALITY = 90  # of JPEG
FIRST_SECONDS = 30.0  # until a session must have been described
ARRIVING = 16, 4  # sessions that are not described yet: all; of one address
SEND_SECONDS = 20.0  # in which a client must take a frame
HEADER = struct.Struct("<III")  # of a frame: its number, frames dropped until then, milliseconds of delay
STRANGE = "Something went wrong on the server; it has been noted in the log."


class Refused(Exception):
    """An answer other than what was asked for. Args: its status and sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Places:
    """Who is served at a time: so many in all, and of one address.

    Args:
        full, many: sentences for whom there is no place.
    """

    def __init__(self, most: int, of_address: int, full: str, many: str):
        self._most, self._of_address, self._full, self._many = most, of_address, full, many
        self._taken: Counter[str] = Counter()

    @contextlib.contextmanager
    def one(self, address: str) -> Iterator[None]:
        """A place while it is used; all on the event loop's thread.

        Raises:
            Refused: there is none.
        """
        if self._taken[address] >= self._of_address:
            raise Refused(429, self._many)
        if self._taken.total() >= self._most:
            raise Refused(503, self._full)
        self._taken[address] += 1
        try:
            yield
        finally:
            self._taken[address] -= 1
            self._taken += Counter()  # without those that are at 0


@dataclass(frozen=True)
class SoundFormat:
    """Of samples of 16 bits, channels interleaved.

    Attributes:
        rate: in Hz.
        channels: 1 or 2.
    """

    rate: int
    channels: int

    @classmethod
    def of(cls, given: dict[str, Any]) -> "SoundFormat":
        """As a session was described.

        Raises:
            UserError: it is no sound that is heard.
        """
        rate, channels = given.get("sampling_rate"), given.get("channels", 1)
        if not isinstance(rate, int) or not SAMPLING_RATES[0] <= rate <= SAMPLING_RATES[1]:
            raise UserError(f"sampling_rate is a whole number of Hz, such as 16000, not {shown(rate)}.")
        if not isinstance(channels, int) or isinstance(channels, bool) or channels not in (1, 2):
            raise UserError(f"channels is 1 or 2, not {shown(channels)}.")
        return cls(rate, channels)

    def read(self, message: bytes) -> np.ndarray:
        """(channels, n) int16.

        Raises:
            UserError: it holds half a sample, or more than a second.
        """
        if len(message) % (2 * self.channels) or len(message) > 2 * self.channels * self.rate:
            raise UserError("A message of sound holds whole samples of 16 bits for every channel, up to a second.")
        return np.frombuffer(message, "<i2").reshape(-1, self.channels).T.astype(np.int16)


def arrivals() -> Places:
    """Places of those who have not said yet what they want: what they send, however large, waits in memory."""
    return Places(
        *ARRIVING,
        "Too many are about to begin a live session; try again in a moment.",
        "You have other live sessions that are about to begin; describe them first.",
    )


async def first_message(socket: WebSocket, arriving: Places) -> dict[str, Any]:
    """What describes the session.

    Raises:
        UserError: it is no JSON object, or does not come.
        Refused: too many are arriving.
        Disconnect: the client has left.
    """
    try:
        with arriving.one(address_of(socket)):
            async with asyncio.timeout(FIRST_SECONDS):
                message = await socket.receive()
    except TimeoutError:
        raise UserError("The first message, which describes the session, did not come in time.") from None
    if message["type"] == "websocket.disconnect":
        raise Disconnect
    return _object(message.get("text"))


async def attend(
    socket: WebSocket,
    session: LiveSession,
    sound: SoundFormat,
    limits: Limits,
    count: Callable[[LiveFrame], None] = lambda frame: None,
) -> LiveStream:
    """Feed a session with what comes, and send its frames, to its end; then close.

    Args:
        count: called with every frame.

    Raises:
        UserError: what is wrong, for the client.
        Disconnect: the client has left.
    """
    height, width = session.size
    ready = {"type": "ready", "latency": session.latency, "fps": FPS, "width": width, "height": height}
    await _send(socket, ready)
    loop = asyncio.get_running_loop()

    def show(frame: LiveFrame) -> None:
        count(frame)
        message = HEADER.pack(frame.number, frame.dropped, round(1000 * frame.delay)) + jpeg(frame.picture)
        with contextlib.suppress(RuntimeError, Disconnect):  # the reader notices that the client has left
            sending = asyncio.run_coroutine_threadsafe(socket.send_bytes(message), loop)
            try:
                sending.result(SEND_SECONDS)
            except TimeoutError:
                sending.cancel()
                raise UserError("The frames of this live session are not taken.") from None

    stream = LiveStream(session, sound.rate, show, limits.live_backlog)
    making = asyncio.create_task(_in_thread(stream.run))
    reading = asyncio.create_task(_read(socket, stream, sound, limits))
    try:
        async with asyncio.timeout(limits.live_seconds + 60):
            done, _ = await asyncio.wait((making, reading), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            await making
    except TimeoutError:
        raise UserError("This live session did not come to its end; begin another one.") from None
    finally:
        stream.stop()
        reading.cancel()
        await asyncio.wait((making, reading), timeout=SEND_SECONDS)
    with contextlib.suppress(RuntimeError, Disconnect):  # it may have left after the last of its sound
        await socket.send_json({"type": "finished", "frames": session.frames, "dropped": stream.dropped})
        await socket.close()
    return stream


async def _read(socket: WebSocket, stream: LiveStream, sound: SoundFormat, limits: Limits) -> None:
    """Sound and wishes, until the client says that it is over."""
    ends = time.monotonic() + limits.live_seconds
    while True:
        try:
            async with asyncio.timeout(limits.live_quiet_seconds):
                message = await socket.receive()
        except TimeoutError:
            quiet = f"Nothing came for {limits.live_quiet_seconds:g} s, so this live session is over"
            raise UserError(f"{quiet}; begin another one.") from None
        if message["type"] == "websocket.disconnect":
            raise Disconnect
        if time.monotonic() > ends:
            raise UserError(f"A live session lasts up to {limits.live_seconds:g} s here; begin another one.")
        if message.get("bytes") is not None:
            samples = sound.read(message["bytes"])
            if samples.size:
                stream.push(samples)
            while not stream.has_room():
                await asyncio.sleep(0.02)
            continue
        wish = _object(message.get("text"))
        if wish.get("type") == "finish":
            stream.finish()
            return
        if wish.get("type") != "set":
            raise UserError('A message is sound, {"type": "set", ...} or {"type": "finish"}.')
        wishes = {name: wish.get(name) for name in ("emotion", "intensity", "emotion_text")}
        check_words(wishes, limits)
        moment = await run_in_threadpool(stream.session.set, **wishes)
        await _send(socket, {"type": "set", "time": moment})


async def _send(socket: WebSocket, message: dict[str, Any]) -> None:
    """Raises Disconnect where the client has left meanwhile, which some servers tell in another way."""
    try:
        await socket.send_json(message)
    except RuntimeError:
        raise Disconnect from None


def address_of(connection: HTTPConnection) -> str:
    """Of a client."""
    return connection.client.host if connection.client else ""


def check_words(wishes: dict[str, Any], limits: Limits) -> None:
    """Raise a UserError for an emotion in words that is no text, or a long one."""
    words = wishes.get("emotion_text")
    if words is not None and (not isinstance(words, str) or len(words) > limits.words):
        raise UserError(f"emotion_text is a text of up to {limits.words} characters.")


@contextlib.asynccontextmanager
async def mistakes_told(socket: WebSocket) -> AsyncIterator[None]:
    """Whatever ends a session before its time is told to its client, if it is still there, and the socket closed.

    A user's mistake is told as it is; what is wrong with us goes to the log.
    """
    try:
        yield
    except Disconnect:
        return
    except Refused as error:
        await _last_words(socket, error.sentence, 1008)
    except UserError as error:
        await _last_words(socket, told(str(error)), 1008)
    except Exception:
        print(masked(traceback.format_exc()), file=sys.stderr)
        await _last_words(socket, STRANGE, 1011)


async def _last_words(socket: WebSocket, sentence: str, code: int) -> None:
    with contextlib.suppress(RuntimeError, Disconnect):
        await socket.send_json({"type": "error", "detail": sentence})
        await socket.close(code)


def jpeg(frame: np.ndarray) -> bytes:
    """A frame (H, W, 3) uint8 RGB as a picture file."""
    parameters = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), parameters)[1].tobytes()


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError("A text message is a JSON object; the first one describes the session.")
    return found


async def _in_thread(work: Callable[[], Any]) -> Any:
    """Threads of their own for what takes minutes, so that the pool is there for others."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.extend((work(), None))
        except BaseException as error:
            outcome.extend((None, error))
        with contextlib.suppress(RuntimeError):  # the server has gone
            loop.call_soon_threadsafe(over.set)

    threading.Thread(target=run, daemon=True, name="live").start()
    await over.wait()
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
