"""Live sessions of the page: admitted by an event with all its checks, then served over a WebSocket."""

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from ..pipeline.live import LiveSession
from ..serving.limits import Limits
from ..serving.live_socket import (
    Places,
    Refused,
    SoundFormat,
    address_of,
    arrivals,
    attend,
    first_message,
    mistakes_told,
)

PATH = "/live"
WAITING_SECONDS = 60.0  # in which who was admitted must begin
MOST_WAITING = 100


@dataclass(frozen=True)
class Admitted:
    """Attributes: begin makes the session; until when, of the monotonic clock, it may be asked to."""

    begin: Callable[[], LiveSession]
    until: float


class LiveDesk:
    """Args:
    limits: of sessions at a time, and of what is sent.
    """

    def __init__(self, limits: Limits):
        self.limits = limits
        self._places = Places(
            limits.live_sessions,
            limits.address_live_sessions,
            "All places are taken for the moment; try again in some minutes.",
            "You have other live sessions open; close one of them.",
        )
        self._arriving = arrivals()
        self._changing = threading.Lock()
        self._admitted: OrderedDict[str, Admitted] = OrderedDict()

    def admit(self, begin: Callable[[], LiveSession]) -> str:
        """A token with which a browser may begin a session, once and soon."""
        token = secrets.token_urlsafe(24)
        with self._changing:
            self._admitted[token] = Admitted(begin, time.monotonic() + WAITING_SECONDS)
            while len(self._admitted) > MOST_WAITING or self._first_is_late():
                self._admitted.popitem(last=False)
        return token

    def _first_is_late(self) -> bool:
        return bool(self._admitted) and next(iter(self._admitted.values())).until < time.monotonic()

    def _take(self, token: object) -> Admitted:
        with self._changing:
            admitted = self._admitted.pop(token, None) if isinstance(token, str) else None
        if admitted is None or admitted.until < time.monotonic():
            raise Refused(403, "This live session is over; start another one.")
        return admitted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The WebSocket at `PATH`; other pages may not open it."""
        socket = WebSocket(scope, receive, send)
        origin = socket.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != socket.headers.get("host"):
            await socket.close(1008)
            return
        await socket.accept()
        async with mistakes_told(socket):
            given = await first_message(socket, self._arriving)
            admitted = self._take(given.get("token"))
            with self._places.one(address_of(socket)):
                sound = SoundFormat.of(given)
                session = await run_in_threadpool(admitted.begin)
                await attend(socket, session, sound, self.limits)
