"""The service: REST for whole videos, a WebSocket for live faces, and what those who run it look at.

Who asks for too much gets one sentence: {"detail": ...}, with the status of what is wrong.
"""

import asyncio
import base64
import binascii
import contextlib
import json
import secrets
import shutil
import struct
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import Depends, FastAPI, Form, Header, Request, Response, UploadFile, WebSocket
from fastapi import WebSocketDisconnect as Disconnect
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..constants import FPS
from ..errors import UserError, shown
from ..inputs.emotions import parse_emotion, parse_intensity, parse_timeline
from ..inputs.numbers import parse_size
from ..media.containers import SAMPLING_RATES
from ..media.videos import VideoWriter
from ..media.watermark import Watermark
from ..pipeline.arguments import ClipOptions
from ..pipeline.pipeline_eat import EATPipeline
from ..serving.limits import Limits
from ..serving.telling import masked, told
from ..serving.turns import Pace, Turns
from ..serving.watch import Watch, timed
from ..version import __version__
from .live_stream import LiveFrame, LiveStream
from .metrics import Metrics

VIDEOS = "v1/videos"
MOTIONS = ("natural", "still")  # without files of the server's
QUALITY = 90  # of JPEG
FIRST_SECONDS = 30.0  # until a live session must have been described
SEND_SECONDS = 20.0  # in which a client must take a frame
HEADER = struct.Struct("<III")  # of a live frame: its number, frames dropped until then, milliseconds of delay
STRANGE = "Something went wrong on the server; it has been noted in the log."
LIVE_FIELDS = ("image", "emotion", "intensity", "emotion_text", "size", "head_motion", "seed", "paste_back", "face")
DESCRIPTION = f"""Talking, emotional videos of one portrait and a voice.

`WebSocket /v1/live`: sound in as it comes, frames out.

1. Send a text message, JSON: `image` (base64 of a picture file), `sampling_rate` (Hz) and `channels` (1 or 2) of the
   sound; as you like `emotion` (a name, or weights), `intensity`, `emotion_text`, `size`, `head_motion` (natural or
   still), `seed`, `face`, `paste_back`; and `key`, where one is set and no header can be.
2. The answer is `{{"type": "ready", "latency": seconds, "fps": {FPS}, "width": ..., "height": ...}}`.
3. Send sound as binary messages of up to a second each: samples as signed 16-bit numbers, little-endian, channels
   interleaved, in real time. Send `{{"type": "set", "emotion": ..., "intensity": ...}}` at any moment; the answer
   `{{"type": "set", "time": seconds}}` says from which frame on it fades in. Send `{{"type": "finish"}}` at the end.
4. Frames come as binary messages: three unsigned 32-bit numbers, little-endian (number of the frame, which shows the
   sound at number / {FPS} seconds; frames dropped until then; milliseconds since the sound that made it certain), then
   a JPEG. Frames for which the server has no time are dropped; sound never is: while too much of it waits, no more is
   read.
5. The last message is `{{"type": "finished", "frames": ..., "dropped": ...}}`, or `{{"type": "error", "detail": ...}}`.
"""


class Refused(Exception):
    """An answer other than what was asked for. Args: its status and sentence."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Door:
    """ASGI middleware: requests of up to `most` bytes; each is counted with its answer."""

    def __init__(self, app: ASGIApp, most: int, metrics: Metrics):
        self.app, self.most, self._metrics = app, most, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"0")
        read, too_large, status = 0, not length.isdigit() or int(length) > self.most, 0

        async def counted() -> Message:
            nonlocal read, too_large
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most:
                too_large = True
                raise Refused(413, self._sentence)
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                if too_large:  # whatever has become of the exception on its way
                    raise Refused(413, self._sentence)
                status = message["status"]
            await send(message)

        try:
            if too_large:
                raise Refused(413, self._sentence)
            await self.app(scope, counted, answer)
        except Refused as error:
            if status:
                raise
            status = error.status
            await JSONResponse({"detail": error.sentence}, status)(scope, receive, send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, status or 500).inc()

    @property
    def _sentence(self) -> str:
        return f"A request has up to {self.most // 1_000_000} MB here, all its files together."


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


class Service:
    """Args:
    pipe: the pipeline.
    limits: of what may be sent.
    key: that requests must bear; None for everybody.
    """

    def __init__(self, pipe: EATPipeline, limits: Limits, key: str | None):
        self.pipe = pipe.with_adapters()
        self.pipe.progress_bar = Pace  # type: ignore[method-assign, assignment]
        self.limits, self.metrics, self._key = limits, Metrics(), key
        self._watch, self._turns = Watch(), Turns(1 if pipe.device.type == "cuda" else 2)
        busy = "The server is busy; try again in a moment."
        many = "Too many of your requests are under way; let some of them finish first."
        self.videos = Places(limits.under_way, limits.address_under_way, busy, many)
        self.live = Places(limits.live_sessions, limits.address_live_sessions, busy, many)

    def check_key(self, given: str | None) -> None:
        """Raise Refused for a key that is not the one."""
        if self._key is not None and not secrets.compare_digest((given or "").encode(), self._key.encode()):
            raise Refused(401, "This server needs a key: send it as the header Authorization: Bearer KEY.")

    # Videos ----------------------------------------------------------------------------------------------------------

    def read(self, folder: Path, settings: dict[str, Any]) -> tuple[np.ndarray, Any, ClipOptions]:
        """Portrait, voice and options of a request whose files lie in a folder.

        Raises:
            UserError: something about them, in one sentence.
        """
        options = ClipOptions(**settings)
        if options.emotion is not None:
            options.track(self.pipe.emotions)
        options.frame_size(self.pipe.repos_net.largest_frames)
        portrait = self.limits.read_portrait(str(folder / "portrait"))
        return portrait, self.limits.read_voice(str(folder / "voice")), options

    def made(self, gone: Callable[[], bool], visitor: tuple, portrait: Any, recording: Any, options: ClipOptions):
        """Frames of a video as they are made, (n, H, W, 3) uint8, in turns with those of others."""
        seconds = self.limits.work_seconds[VIDEOS]
        sentence = f"This took longer than {seconds:g} s, which is the limit here, and was ended; ask for less."

        def frames() -> Iterator[np.ndarray]:
            for chunk in self.pipe.stream(portrait, recording, options=options):
                self.metrics.frames.labels("video").inc(len(chunk))
                yield chunk

        return timed(frames, seconds, self._watch, lambda: (gone, visitor), sentence, self._turns)()

    def write(self, folder: Path, gone: Callable[[], bool], visitor: tuple, settings: dict[str, Any]) -> Path:
        """The video of a request, beside its files."""
        portrait, recording, options = self.read(folder, settings)
        path = folder / "video.mp4"
        with VideoWriter(path, recording) as writer:
            for chunk in self.made(gone, visitor, portrait, recording, options):
                writer.write(chunk)
        return path

    def pictures(
        self, folder: Path, gone: Callable[[], bool], visitor: tuple, settings: dict[str, Any]
    ) -> Iterator[bytes]:
        """Its frames as parts of a multipart/x-mixed-replace answer."""
        portrait, recording, options = self.read(folder, settings)
        mark, number = Watermark(), 0
        for chunk in self.made(gone, visitor, portrait, recording, options):
            for frame in chunk:
                picture = jpeg(mark(frame))
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\nX-Frame: {number}\r\n"
                yield head.encode() + b"\r\n" + picture + b"\r\n"
                number += 1
        yield b"--frame--\r\n"

    # Live ------------------------------------------------------------------------------------------------------------

    async def talk(self, socket: WebSocket) -> None:
        """A live session from its description to its end.

        Raises:
            UserError, Refused: what is wrong, for the client.
            Disconnect: the client has left.
        """
        address = socket.client.host if socket.client else ""
        given = await self._described(socket)
        self.check_key(_bearer(socket.headers.get("authorization")) or given.get("key"))
        with self.live.one(address), self.metrics.live_sessions.track_inprogress():
            rate, channels = given.get("sampling_rate"), given.get("channels", 1)
            if not isinstance(rate, int) or not SAMPLING_RATES[0] <= rate <= SAMPLING_RATES[1]:
                raise UserError(f"sampling_rate is a whole number of Hz, such as 16000, not {shown(rate)}.")
            if channels not in (1, 2):
                raise UserError(f"channels is 1 or 2, not {shown(channels)}.")
            session = await run_in_threadpool(self._begin, given)
            height, width = session.size
            await socket.send_json(
                {"type": "ready", "latency": session.latency, "fps": FPS, "width": width, "height": height}
            )
            loop = asyncio.get_running_loop()

            def show(frame: LiveFrame) -> None:
                self.metrics.frames.labels("live").inc()
                self.metrics.delay.observe(frame.delay)
                message = HEADER.pack(frame.number, frame.dropped, round(1000 * frame.delay)) + jpeg(frame.picture)
                with contextlib.suppress(RuntimeError, Disconnect):  # the reader notices that the client has left
                    sending = asyncio.run_coroutine_threadsafe(socket.send_bytes(message), loop)
                    try:
                        sending.result(SEND_SECONDS)
                    except TimeoutError:
                        sending.cancel()
                        raise UserError("The frames of this live session are not taken.") from None

            stream = LiveStream(session, rate, show, self.limits.live_backlog)
            making = asyncio.create_task(_in_thread(stream.run))
            reading = asyncio.create_task(self._read_sound(socket, stream, rate, channels))
            try:
                async with asyncio.timeout(self.limits.live_seconds + 60):
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
                self.metrics.dropped.inc(stream.dropped)
            await socket.send_json({"type": "finished", "frames": session.frames, "dropped": stream.dropped})

    async def _described(self, socket: WebSocket) -> dict[str, Any]:
        try:
            async with asyncio.timeout(FIRST_SECONDS):
                message = await socket.receive()
        except TimeoutError:
            raise UserError("The first message, which describes the session, did not come in time.") from None
        if message["type"] == "websocket.disconnect":
            raise Disconnect
        return _object(message.get("text"))

    def _begin(self, given: dict[str, Any]) -> Any:
        strange = given.keys() - {*LIVE_FIELDS, "sampling_rate", "channels", "key", "type"}
        if strange:
            raise UserError(f"A live session knows no {shown(sorted(strange)[0])}; see the service's page /docs.")
        options = {name: given[name] for name in LIVE_FIELDS if name != "image" and given.get(name) is not None}
        if "seed" in options:
            options["generator"] = options.pop("seed")
        _check_motion(options.get("head_motion", MOTIONS[0]))
        self._check_words(options)
        try:
            picture = base64.b64decode(given.get("image") or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise UserError("image is a picture file as base64.") from None
        with tempfile.TemporaryDirectory(prefix="eat_hf_") as folder:
            (Path(folder) / "portrait").write_bytes(picture)
            portrait = self.limits.read_portrait(str(Path(folder) / "portrait"))
        return self.pipe.live(portrait, options=ClipOptions(**options))

    def _check_words(self, wishes: dict[str, Any]) -> None:
        words = wishes.get("emotion_text")
        if words is not None and (not isinstance(words, str) or len(words) > self.limits.words):
            raise UserError(f"emotion_text is a text of up to {self.limits.words} characters.")

    async def _read_sound(self, socket: WebSocket, stream: LiveStream, rate: int, channels: int) -> None:
        """Sound and wishes, until the client says that it is over."""
        ends = time.monotonic() + self.limits.live_seconds
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise Disconnect
            if time.monotonic() > ends:
                raise UserError(f"A live session lasts up to {self.limits.live_seconds:g} s here; begin another one.")
            sound = message.get("bytes")
            if sound is None:
                wish = _object(message.get("text"))
                if wish.get("type") == "finish":
                    stream.finish()
                    return
                if wish.get("type") != "set":
                    raise UserError('A message is sound, {"type": "set", ...} or {"type": "finish"}.')
                wishes = {name: wish.get(name) for name in ("emotion", "intensity", "emotion_text")}
                self._check_words(wishes)
                moment = await run_in_threadpool(stream.session.set, **wishes)
                await socket.send_json({"type": "set", "time": moment})
                continue
            if len(sound) % (2 * channels) or len(sound) > 2 * channels * rate:
                raise UserError("A message of sound holds whole samples of 16 bits for every channel, up to a second.")
            if sound:
                samples = np.frombuffer(sound, "<i2").reshape(-1, channels).T
                self.metrics.sound.inc(samples.shape[1] / rate)
                stream.push(samples.astype(np.int16))
            while not stream.has_room():
                await asyncio.sleep(0.02)


def build_service(pipe: EATPipeline, limits: Limits | None = None, key: str | None = None) -> FastAPI:
    """The service of a pipeline.

    Args:
        limits: of what may be sent; as on the page.
        key: that requests must bear; None for everybody.
    """
    service = Service(pipe, limits or Limits(), key)
    app = FastAPI(title="EAT: emotional talking heads", version=__version__, description=DESCRIPTION)
    app.state.service = service
    app.add_middleware(Door, most=service.limits.upload_megabytes * 1_000_000, metrics=service.metrics)

    async def allowed(authorization: Annotated[str | None, Header()] = None) -> None:
        service.check_key(_bearer(authorization))

    guarded = [Depends(allowed)]

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"detail": error.sentence}, error.status)

    @app.exception_handler(RequestValidationError)
    async def misread(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"detail": told(f"{first['loc'][-1]}: {first['msg']}.")}, 422)

    @app.exception_handler(UserError)
    async def mistaken(request: Request, error: UserError) -> JSONResponse:
        return JSONResponse({"detail": told(str(error))}, 400)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"detail": STRANGE}, 500)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the service is up."""
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", dependencies=guarded)
    async def metrics() -> Response:
        """What was done, in the format of Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/emotions", dependencies=guarded)
    async def emotions() -> dict[str, list[str]]:
        """Names that `emotion` may be or mix."""
        return {"emotions": list(service.pipe.emotions)}

    @app.post(
        f"/{VIDEOS}",
        dependencies=guarded,
        response_class=Response,
        responses={200: {"content": {"video/mp4": {}, "multipart/x-mixed-replace": {}}}},
    )
    async def videos(
        request: Request,
        image: UploadFile,
        audio: UploadFile,
        emotion: Annotated[str, Form(description="A name, or happy=0.7,surprised=0.3")] = "neutral",
        timeline: Annotated[str | None, Form(description="In place of emotion: 0:neutral,1.5:happy")] = None,
        emotion_text: Annotated[str | None, Form(description="In place of emotion, in words")] = None,
        intensity: Annotated[str, Form(description="0 to 1.5, or a timeline 0:0.5,2:1.2")] = "1",
        head_motion: Annotated[str, Form(description="natural or still")] = MOTIONS[0],
        size: Annotated[str | None, Form(description="256, 512, 1024 or portrait")] = None,
        seed: Annotated[int | None, Form()] = None,
        face: Annotated[int | None, Form(description="Counted from 0; the most prominent one if left out")] = None,
        paste_back: Annotated[bool, Form(description="Into the whole picture")] = False,
        output: Annotated[str, Form(description="mp4, or frames: JPEGs as they are made")] = "mp4",
    ) -> Response:
        """A video of a portrait and a voice."""
        if output not in ("mp4", "frames"):
            raise UserError(f"output is mp4 or frames, not {shown(output)}.")
        _check_motion(head_motion)
        texts = {"emotion_text": (emotion_text, service.limits.words)}
        texts |= {name: (text, service.limits.line) for name, text in
                  (("emotion", emotion), ("timeline", timeline), ("intensity", intensity))}  # fmt: skip
        for name, (text, most) in texts.items():
            if text is not None and len(text) > most:
                raise UserError(f"{name} has {len(text)} characters; up to {most} are allowed.")
        settings = {
            "emotion": parse_timeline(timeline) if timeline else parse_emotion(emotion),
            "intensity": parse_intensity(intensity),
            "emotion_text": emotion_text,
            "head_motion": head_motion,
            "size": parse_size(size),
            "generator": seed,
            "face": face,
            "paste_back": paste_back,
        }
        address = request.client.host if request.client else ""
        with contextlib.ExitStack() as leaving:
            leaving.enter_context(service.videos.one(address))
            leaving.enter_context(service.metrics.under_way.track_inprogress())
            folder = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="eat_hf_")))
            for upload, name in ((image, "portrait"), (audio, "voice")):
                await run_in_threadpool(_keep, upload, folder / name)
            left = threading.Event()
            given = folder, left.is_set, ((address,), (address, id(request)), (id(request),)), settings
            if output == "frames":
                parts = service.pictures(*given)
                first = await run_in_threadpool(next, parts)  # what is wrong shows before the answer begins
                kept = leaving.pop_all()
                return StreamingResponse(
                    _sent(first, parts, left, kept), media_type="multipart/x-mixed-replace; boundary=frame"
                )
            looking = asyncio.create_task(_until_left(request, left))
            try:
                path = await run_in_threadpool(service.write, *given)
                video = await run_in_threadpool(path.read_bytes)
            finally:
                looking.cancel()
            return Response(video, media_type="video/mp4", headers={"content-disposition": "inline; filename=eat.mp4"})

    @app.websocket("/v1/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        try:
            await service.talk(socket)
            await socket.close()
        except Disconnect:
            return
        except (UserError, Refused) as error:
            sentence = error.sentence if isinstance(error, Refused) else told(str(error))
            await _last_words(socket, sentence, 1008)
        except Exception:
            print(masked(traceback.format_exc()), file=sys.stderr)
            await _last_words(socket, STRANGE, 1011)

    return app


def jpeg(frame: np.ndarray) -> bytes:
    """A frame (H, W, 3) uint8 RGB as a picture file."""
    parameters = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    return cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), parameters)[1].tobytes()


def _bearer(header: str | None) -> str | None:
    kind, _, key = (header or "").partition(" ")
    return key.strip() if kind.lower() == "bearer" else None


def _check_motion(motion: Any) -> None:
    if motion not in MOTIONS:
        raise UserError(f"head_motion is natural or still here, not {shown(motion)}.")


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError("A text message is a JSON object; the first one describes the session.")
    return found


def _keep(upload: UploadFile, path: Path) -> None:
    with open(path, "wb") as file:
        shutil.copyfileobj(upload.file, file)


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


async def _until_left(request: Request, left: threading.Event) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.2)
    left.set()


async def _sent(
    first: bytes, parts: Iterator[bytes], left: threading.Event, kept: contextlib.ExitStack
) -> AsyncIterator[bytes]:
    try:
        yield first
        while part := await run_in_threadpool(next, parts, b""):
            yield part
    finally:
        left.set()  # and so the work ends, wherever it is
        kept.close()


async def _last_words(socket: WebSocket, sentence: str, code: int) -> None:
    with contextlib.suppress(RuntimeError, Disconnect):
        await socket.send_json({"type": "error", "detail": sentence})
        await socket.close(code)
