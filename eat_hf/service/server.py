"""The service: REST for whole videos, a WebSocket for live faces, and what those who run it look at.

Who asks for too much gets one sentence: {"detail": ...}, with the status of what is wrong.
"""

import asyncio
import base64
import binascii
import contextlib
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, Form, Request, Response, UploadFile, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..constants import FPS
from ..errors import UserError, shown
from ..inputs.emotions import parse_emotion, parse_intensity, parse_timeline
from ..inputs.numbers import parse_size
from ..media.videos import VideoWriter
from ..media.watermark import Watermark
from ..pipeline.arguments import ClipOptions
from ..pipeline.pipeline_eat import EATPipeline
from ..serving.limits import Limits
from ..serving.live_socket import (
    STRANGE,
    Places,
    Refused,
    SoundFormat,
    address_of,
    arrivals,
    attend,
    check_words,
    first_message,
    jpeg,
    mistakes_told,
)
from ..serving.live_stream import LiveFrame
from ..serving.telling import told
from ..serving.turns import Pace, Turns
from ..serving.watch import Watch, timed
from ..version import __version__
from .metrics import Metrics

MOTIONS = ("natural", "still")  # without files of the server's
OPEN = ("/health", "/docs", "/openapi.json")  # without a key
AMOUNTS = ("head_amount", "blinks", "gaze")  # of motion
UPLOADS = 32  # requests whose files are still coming
LIVE_FIELDS = ("image", "emotion", "intensity", "emotion_text", "size", "head_motion", "seed", "paste_back", "face")
DESCRIPTION = f"""Talking, emotional videos of one portrait and a voice.

`WebSocket /v1/live`: sound in as it comes, frames out.

1. Send a text message, JSON: `image` (base64 of a picture file), `sampling_rate` (Hz) and `channels` (1 or 2) of the
   sound; as you like `emotion` (a name, or weights), `intensity`, `emotion_text`, `size`, `head_motion` (natural or
   still), `head_amount`, `blinks` and `gaze` (0 to 2), `seed`, `face`, `paste_back`; and `key`, where one is set and no
   header can be.
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


class Door:
    """ASGI middleware: only requests that bear the key, before anything of them is read, and of a size that is allowed;
    each is counted with its answer.
    """

    def __init__(self, app: ASGIApp, service: "Service"):
        self.app, self._service = app, service
        self.most, self.seconds = service.limits.upload_megabytes * 1_000_000, service.limits.upload_seconds
        self._metrics = service.metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        too_large = Refused(413, f"A request has up to {self.most // 1_000_000} MB here, all its files together.")
        late = Refused(408, f"A request takes up to {self.seconds:g} s to arrive here; send smaller files.")
        read, refusal, status = 0, None if length.isdigit() and int(length) <= self.most else too_large, 0
        until = asyncio.get_running_loop().time() + self.seconds

        async def counted() -> Message:
            nonlocal read, refusal
            try:
                async with asyncio.timeout_at(None if arrived else until):
                    message = await receive()
            except TimeoutError:
                refusal = late
                raise refusal from None
            read += len(message.get("body", b""))
            if read > self.most:
                refusal = too_large
                raise refusal
            if not message.get("more_body", False):
                arrived.append(True)
                arriving.close()
            return message

        async def answer(message: Message) -> None:
            nonlocal status
            if refusal is not None and status in (0, refusal.status):  # whatever the app makes of a body cut off
                if status == 0:
                    status = refusal.status
                    await JSONResponse({"detail": refusal.sentence}, status)(scope, receive, send)
                return
            status = message.get("status", status)
            await send(message)

        arrived: list[bool] = []
        arriving = contextlib.ExitStack()
        try:
            if scope["path"] not in OPEN:
                self._service.check_key(_bearer(headers.get(b"authorization", b"").decode("latin1")))
            if refusal is not None:
                raise refusal
            if scope["method"] not in ("GET", "HEAD"):
                arriving.enter_context(self._service.uploads.one(address_of(Request(scope))))
            await self.app(scope, counted, answer)
        except Refused as error:
            if status:
                raise
            status = error.status
            await JSONResponse({"detail": error.sentence}, status)(scope, receive, send)
        finally:
            arriving.close()
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, status or 500).inc()


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
        self.uploads = Places(UPLOADS, limits.address_under_way, busy, many)
        self.videos = Places(limits.under_way, limits.address_under_way, busy, many)
        self._arriving = arrivals()
        self.live = Places(limits.live_sessions, limits.address_live_sessions, busy, many)

    def check_key(self, given: Any) -> None:
        """Raise Refused for a key that is not the one."""
        known = given.encode(errors="surrogatepass") if isinstance(given, str) else b""
        if self._key is not None and not secrets.compare_digest(known, self._key.encode()):
            raise Refused(401, "This server needs a key: send it as the header Authorization: Bearer KEY.")

    # Videos ----------------------------------------------------------------------------------------------------------

    def read(self, folder: Path, settings: dict[str, Any]) -> tuple[np.ndarray, Any, ClipOptions]:
        """Portrait, voice and options of a request whose files lie in a folder.

        Raises:
            UserError: something about them, in one sentence.
        """
        options = ClipOptions(**settings)
        options.check_emotion(self.pipe.emotions)
        options.frame_size(self.pipe.repos_net.largest_frames)
        portrait = self.limits.read_portrait(str(folder / "portrait"))
        return portrait, self.limits.read_voice(str(folder / "voice")), options

    def made(self, gone: Callable[[], bool], visitor: tuple, portrait: Any, recording: Any, options: ClipOptions):
        """Frames of a video as they are made, (n, H, W, 3) uint8, in turns with those of others."""
        seconds = self.limits.video_seconds
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
        """A live session from its description to its end; raises as `attend`."""
        address = address_of(socket)
        given = await first_message(socket, self._arriving)
        self.check_key(_bearer(socket.headers.get("authorization")) or given.get("key"))
        with self.live.one(address), self.metrics.live_sessions.track_inprogress():
            sound = SoundFormat.of(given)
            session = await run_in_threadpool(self._begin, given)
            stream = await attend(socket, session, sound, self.limits, self._count)
            self.metrics.sound.inc(float(stream.heard))
            self.metrics.dropped.inc(stream.dropped)

    def _count(self, frame: LiveFrame) -> None:
        self.metrics.frames.labels("live").inc()
        self.metrics.delay.observe(frame.delay)

    def _begin(self, given: dict[str, Any]) -> Any:
        strange = given.keys() - {*LIVE_FIELDS, *AMOUNTS, "sampling_rate", "channels", "key", "type"}
        if strange:
            raise UserError(f"A live session knows no {shown(sorted(strange)[0])}; see the service's page /docs.")
        names = [name for name in (*LIVE_FIELDS, *AMOUNTS) if name != "image"]
        options = {name: given[name] for name in names if given.get(name) is not None}
        if "seed" in options:
            options["generator"] = options.pop("seed")
        _check_motion(options.get("head_motion", MOTIONS[0]))
        if not isinstance(options.get("paste_back", False), bool):
            raise UserError(f"paste_back is true or false, not {shown(options['paste_back'])}.")
        check_words(options, self.limits)
        try:
            picture = base64.b64decode(given.get("image") or "", validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise UserError("image is a picture file as base64.") from None
        with tempfile.TemporaryDirectory(prefix="eat_hf_") as folder:
            (Path(folder) / "portrait").write_bytes(picture)
            portrait = self.limits.read_portrait(str(Path(folder) / "portrait"))
        return self.pipe.live(portrait, options=ClipOptions(**options))


class Frames(StreamingResponse):
    """Parts of a multipart answer as they are made; the work ends and its place is free however the sending ends, also
    if it never began because the client had left.
    """

    def __init__(self, first: bytes, parts: Iterator[bytes], left: threading.Event, kept: contextlib.ExitStack):
        super().__init__(self._sent(first, parts), media_type="multipart/x-mixed-replace; boundary=frame")
        self._left, self._kept = left, kept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._kept:
            try:
                await super().__call__(scope, receive, send)
            finally:
                self._left.set()  # and so the work ends, wherever it is

    @staticmethod
    async def _sent(first: bytes, parts: Iterator[bytes]) -> AsyncIterator[bytes]:
        yield first
        while part := await run_in_threadpool(next, parts, b""):
            yield part


def build_service(pipe: EATPipeline, limits: Limits | None = None, key: str | None = None) -> FastAPI:
    """The service of a pipeline.

    Args:
        limits: of what may be sent; as on the page.
        key: that requests must bear; None for everybody.
    """
    service = Service(pipe, limits or Limits(), key)
    app = FastAPI(title="EAT: emotional talking heads", version=__version__, description=DESCRIPTION, redoc_url=None)
    app.state.service = service
    app.add_middleware(Door, service=service)

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

    @app.get("/metrics")
    async def metrics() -> Response:
        """What was done, in the format of Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/emotions")
    async def emotions() -> dict[str, list[str]]:
        """Names that `emotion` may be or mix."""
        return {"emotions": list(service.pipe.emotions)}

    @app.post(
        "/v1/videos",
        response_class=Response,
        responses={200: {"content": {"video/mp4": {}, "multipart/x-mixed-replace": {}}}},
    )
    async def videos(
        request: Request,
        image: UploadFile,
        audio: UploadFile,
        emotion: Annotated[str, Form(description="A name, happy=0.7,surprised=0.3, or voice")] = "neutral",
        timeline: Annotated[str | None, Form(description="In place of emotion: 0:neutral,1.5:happy")] = None,
        emotion_text: Annotated[str | None, Form(description="In place of emotion, in words")] = None,
        intensity: Annotated[str, Form(description="0 to 1.5, a timeline 0:0.5,2:1.2, or voice")] = "1",
        head_motion: Annotated[str, Form(description="natural or still")] = MOTIONS[0],
        head_amount: Annotated[float, Form(description="0 to 2, how much the head moves")] = 1.0,
        blinks: Annotated[float, Form(description="0 to 2, how often lids shut")] = 1.0,
        gaze: Annotated[float, Form(description="0 to 2, how far eyes move")] = 1.0,
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
            "head_amount": head_amount,
            "blinks": blinks,
            "gaze": gaze,
            "size": parse_size(size),
            "generator": seed,
            "face": face,
            "paste_back": paste_back,
        }
        address = address_of(request)
        with contextlib.ExitStack() as leaving:
            leaving.enter_context(service.videos.one(address))
            leaving.enter_context(service.metrics.under_way.track_inprogress())
            folder = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="eat_hf_")))
            for upload, name in ((image, "portrait"), (audio, "voice")):
                await run_in_threadpool(_keep, upload, folder / name)
            left = threading.Event()
            given = folder, left.is_set, ((address,), (address, id(request)), (id(request),)), settings
            looking = asyncio.create_task(_until_left(request, left))
            try:
                if output == "frames":
                    parts = service.pictures(*given)
                    first = await run_in_threadpool(next, parts)  # what is wrong shows before the answer begins
                    return Frames(first, parts, left, leaving.pop_all())
                path = await run_in_threadpool(service.write, *given)
                video = await run_in_threadpool(path.read_bytes)
            finally:
                looking.cancel()
            return Response(video, media_type="video/mp4", headers={"content-disposition": "inline; filename=eat.mp4"})

    @app.websocket("/v1/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        async with mistakes_told(socket):
            await service.talk(socket)

    return app


def _bearer(header: str | None) -> str | None:
    """The key of a header, whose bytes are UTF-8 and came as Latin-1."""
    kind, _, key = (header or "").partition(" ")
    return key.strip().encode("latin1").decode(errors="replace") if kind.lower() == "bearer" else None


def _check_motion(motion: Any) -> None:
    if motion not in MOTIONS:
        raise UserError(f"head_motion is natural or still here, not {shown(motion)}.")


def _keep(upload: UploadFile, path: Path) -> None:
    with open(path, "wb") as file:
        shutil.copyfileobj(upload.file, file)


async def _until_left(request: Request, left: threading.Event) -> None:
    while not await request.is_disconnected():
        await asyncio.sleep(0.2)
    left.set()
