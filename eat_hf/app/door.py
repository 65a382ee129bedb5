"""The page's HTTP door: only the routes that the page needs, and only requests of a size that can be meant."""

import asyncio
import contextlib
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import UserError, shown
from ..serving.limits import Limits
from ..serving.telling import masked
from . import live_desk
from .storage import Storage

API = "/gradio_api"
PAGES = ("/", "/config", "/theme.css", "/favicon.ico", "/robots.txt", "/manifest.json", "/login", "/logout")
FOLDERS = ("/assets/", "/static/", "/svelte/", "/pwa_icon")
READ = (
    "info",
    "openapi.json",
    "startup-events",
    "app_id",
    "user",
    "login_check",
    "token",
    "theme.css",
    "upload_progress",
    "queue/status",
    "queue/data",
    "call/",
    "heartbeat/",
    "file=",
)
ASKED = ("call/", "run/", "api/", "queue/join", "cancel", "reset")  # with a body of JSON
AT_ONCE = 4  # requests past the queue that are worked on at a time; they are short
WAITING = 200  # requests past the queue, and uploads
UPLOADS = 8  # at a time
DEPTH = 8  # of lists in lists
KEYS = {"session_hash": str, "event_id": str, "fn_index": int, "trigger_id": int}  # of a request, beside its data
FULL = "The server is full of uploads for the moment; try again in some minutes."


class TooLarge(Exception):
    """A body that is longer than allowed."""


class Door:
    """ASGI middleware.

    Args:
        app: what it protects.
        limits: of requests and uploads.
        storage: of uploads.
        is_event: whether the page has an event of that number.
        live: what answers the one WebSocket there is.
    """

    def __init__(self, app: ASGIApp, limits: Limits, storage: Storage, is_event: Callable[[Any], bool], live: ASGIApp):
        self.app, self.limits, self.storage, self.is_event, self._live = app, limits, storage, is_event, live
        self._direct, self._uploads, self._waiting = asyncio.Semaphore(AT_ONCE), asyncio.Semaphore(UPLOADS), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        if scope["type"] != "http":
            if path == live_desk.PATH:
                await self._live(scope, receive, send)
            return
        method = scope["method"]
        name = path.removeprefix(f"{API}/") if path.startswith(f"{API}/") else ""
        serve = self.app
        if method == "POST" and name.rstrip("/") == "upload":
            serve = self._upload
        elif method == "POST" and name.startswith(ASKED):
            serve = self._ask
        elif not _is_open(method, path, name):
            await JSONResponse({"detail": "There is no such page."}, 404)(scope, receive, send)
            return
        started = False

        async def answer(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await serve(scope, receive, answer)
        except UserError as error:
            if not started:
                await _refuse(str(error), 400)(scope, receive, send)
        except Exception:
            print(masked(traceback.format_exc()), file=sys.stderr)
            if not started:
                await _refuse("The request is not what this page understands; see its API.", 400)(scope, receive, send)

    async def _ask(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self.limits.upload_seconds):
                body = await _read(receive, self.limits.request_kilobytes * 1000)
        except TooLarge:
            most = self.limits.request_kilobytes
            await _refuse(f"A request has up to {most} kB; send files as uploads.", 413)(scope, receive, send)
            return
        except TimeoutError:
            await _refuse("The request did not arrive in time.", 408)(scope, receive, send)
            return
        if body is None:
            return  # the visitor has left
        path = scope["path"]
        body = checked_request(body, path, self.limits, self.is_event)
        headers = [header for header in scope["headers"] if header[0] not in (b"content-type", b"content-length")]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        scope, given = {**scope, "headers": headers}, False

        async def once() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        if path.startswith((f"{API}/run/", f"{API}/api/")):
            async with self._turn(self._direct):
                await self.app(scope, once, send)
        else:
            await self.app(scope, once, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        most = self.limits.upload_megabytes * 1_000_000
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            await _refuse(self._too_much, 413)(scope, receive, send)
            return
        # what does not say its length may have as much as is allowed
        if not await asyncio.to_thread(self.storage.has_room, int(length) or most):
            await _refuse(FULL, 507)(scope, receive, send)
            return
        read, answered = 0, False

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                raise TooLarge
            return message

        async def answer(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        async with self._turn(self._uploads):
            try:
                async with asyncio.timeout(self.limits.upload_seconds):
                    await self.app(scope, counted, answer)
            except (TooLarge, TimeoutError) as error:
                if not answered:
                    late = f"An upload takes up to {self.limits.upload_seconds:g} s here; send a smaller file."
                    large = isinstance(error, TooLarge)
                    refusal = _refuse(self._too_much, 413) if large else _refuse(late, 408)
                    await refusal(scope, receive, send)

    @property
    def _too_much(self) -> str:
        return f"An upload has up to {self.limits.upload_megabytes} MB here, all its files together."

    @contextlib.asynccontextmanager
    async def _turn(self, among: asyncio.Semaphore):
        if self._waiting >= WAITING:
            raise UserError("The server is busy; try again in a moment.")
        self._waiting += 1
        try:
            async with among:
                yield
        finally:
            self._waiting -= 1


def checked_request(body: bytes, path: str, limits: Limits, is_event: Callable[[Any], bool]) -> bytes:
    """The outside of a request for an event, as far as the page needs it.

    Raises:
        UserError: it is not JSON of the right shape, or too long a list.
    """
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise UserError("The request is not JSON.") from None
    if not isinstance(found, dict):
        raise UserError('The request is not an object, such as {"data": [...]}.')
    _check_lists(found, limits.items, DEPTH)
    if "/call/v2/" not in path and not path.startswith((f"{API}/cancel", f"{API}/reset")):
        if not isinstance(found.get("data"), list):
            raise UserError('The request lacks its inputs, a list: {"data": [...]}.')
    if "/call/v2/" in path:  # whose names are those of the endpoint's inputs
        return json.dumps(found).encode()
    for name, kind in KEYS.items():
        value = found.get(name)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool) or len(str(value)) > 100):
            raise UserError(f"{name} of a request cannot be {shown(value)}.")
    number = found.get("fn_index")
    if number is not None and not is_event(number):
        raise UserError(f"There is no event {shown(number)}.")
    happened = found.get("event_data")
    if happened is not None:
        # Gradio takes these keys for granted where something was chosen; of other events the page sends plain values
        known = happened if isinstance(happened, dict) else {}
        found["event_data"] = {"index": None, "value": None, **known}
    return json.dumps({name: found[name] for name in (*KEYS, "data", "event_data") if name in found}).encode()


def _check_lists(value: Any, longest: int, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth == 0:
            raise UserError(f"The request is nested more than {DEPTH} deep.")
        if len(value) > longest:
            raise UserError(f"A list in a request has up to {longest} entries, not {len(value)}.")
        for each in value.values() if isinstance(value, dict) else value:
            _check_lists(each, longest, depth - 1)


def _is_open(method: str, path: str, name: str) -> bool:
    if method == "POST":
        return path.rstrip("/") == "/login"
    if method not in ("GET", "HEAD"):
        return False
    if name:
        # Gradio would fetch what an address names
        return name.startswith(READ) and not name.lower().startswith(("file=http:", "file=https:"))
    return (path.rstrip("/") or "/") in PAGES or path.startswith(FOLDERS)


async def _read(receive: Receive, most: int) -> bytes | None:
    parts: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > most:
            raise TooLarge
        if not message.get("more_body", False):
            return b"".join(parts)


def _refuse(sentence: str, status: int) -> JSONResponse:
    return JSONResponse({"detail": sentence, "error": sentence}, status)
