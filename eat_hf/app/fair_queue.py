"""The queue in front of the networks, in which visitors take turns."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from gradio.queueing import Event, Queue

NETWORKS = "generate"  # name of the queue for requests that the networks work on
REMEMBERED = 10_000  # visitors
BUSY = "Too many of your requests are waiting; let some of them finish first."


class FairQueue(Queue):
    """Visitors take turns, however many requests each has waiting: next is the request of whoever's last turn is the
    longest ago; first among addresses, then among the sessions of one. No session has two under way at once, no address
    all that may be, and nobody fills the queue.

    Args:
        visitor_waiting: requests of one session that may wait.
        under_way: requests for the networks that may be under way, where they take `turns.Turns`.
        of_address: of them, of one address; unnamed: of one address and of no session.
        patience: seconds for which none of those places becomes free, and somebody waits, until one is made.
        make_place: then called.
        options: those of `gradio.queueing.Queue`.
    """

    def __init__(
        self,
        visitor_waiting: int,
        under_way: int,
        of_address: int,
        unnamed: int,
        patience: float,
        make_place: Callable[[], Any],
        **options: Any,
    ):
        super().__init__(**options)
        self.visitor_waiting = visitor_waiting
        self.under_way, self.of_address, self.unnamed = under_way, of_address, unnamed
        self.patience, self.make_place, self._moved = patience, make_place, 0.0
        self._turns: OrderedDict[tuple, int] = OrderedDict()
        self._turn = 0

    def create_event_queue_for_fn(self, block_fn):
        super().create_event_queue_for_fn(block_fn)
        if block_fn.concurrency_id == NETWORKS:
            self.event_queue_per_concurrency_id[NETWORKS].concurrency_limit = self.under_way

    async def push(self, body, request, username):
        visitor = (_address(request), body.session_hash)
        waiting = [event for queue in self.event_queue_per_concurrency_id.values() for event in queue.queue]
        if sum(_visitor(event) == visitor for event in waiting) >= self.visitor_waiting:
            return False, BUSY, "queue_full"
        return await super().push(body, request, username)

    def get_events(self):
        for concurrency_id, queue in self.event_queue_per_concurrency_id.items():
            limit = queue.concurrency_limit
            if queue.queue and (limit is None or queue.current_concurrency < limit):
                event = min(queue.queue, key=self._rank)  # of equals the one that waits the longest
                if not self._is_busy(event):
                    queue.queue.remove(event)
                    self._remember(event)
                    self._moved = time.monotonic() if concurrency_id == NETWORKS else self._moved
                    return [event], False, concurrency_id
            elif queue.queue and concurrency_id == NETWORKS:
                self._make_place(min(queue.queue, key=self._rank))
        return None

    def _make_place(self, event: Event) -> None:
        """For a request that could come under way if it had one."""
        since = max(self._moved, event.enqueue_time)
        if not self._is_busy(event) and time.monotonic() > since + self.patience:
            self.make_place()
            self._moved = time.monotonic()  # it takes a moment until it is free

    def _rank(self, event: Event) -> tuple:
        return (self._is_busy(event), *(self._turns.get(key, 0) for key in visitor_of(event)[:2]))

    def _is_busy(self, event: Event) -> bool:
        """Whether its visitor has as many of that queue under way as may be."""
        active = [other for job in self.active_jobs for other in job or ()]
        others = [_visitor(other) for other in active if other.concurrency_id == event.concurrency_id]
        address, session = visitor = _visitor(event)
        if event.concurrency_id != NETWORKS:
            return visitor in others
        full = sum(other[0] == address for other in others) >= self.of_address
        return full or others.count(visitor) >= (self.unnamed if session is None else 1)

    def _remember(self, event: Event) -> None:
        self._turn += 1
        for key in visitor_of(event)[:2]:
            self._turns[key] = self._turn
            self._turns.move_to_end(key)
        while len(self._turns) > REMEMBERED:
            self._turns.popitem(last=False)


def _address(request: Any) -> str:
    return request.client.host if request is not None and request.client else ""


def _visitor(event: Event) -> tuple:
    """Address and session; programs that name no session are one visitor for each address."""
    return _address(event.request), None if event.session_hash == event._id else event.session_hash


def visitor_of(event: Event) -> tuple[tuple, tuple, tuple]:
    """Whose turn it is: an address, one of its sessions, the request itself."""
    visitor = _visitor(event)
    return visitor[:1], visitor, (event._id,)
