"""The queue in front of the networks, in which visitors take turns."""

from collections import OrderedDict
from typing import Any

from gradio.queueing import Event, Queue

REMEMBERED = 10_000  # visitors
BUSY = "Too many of your requests are waiting; let some of them finish first."


class FairQueue(Queue):
    """Visitors take turns, however many requests each has waiting: next is the request of whoever's last turn is the
    longest ago; first among addresses, then among the sessions of one. Nobody has two at a time, and nobody fills the
    queue.

    Args:
        visitor_waiting: requests of one session that may wait.
        options: those of `gradio.queueing.Queue`.
    """

    def __init__(self, visitor_waiting: int, **options: Any):
        super().__init__(**options)
        self.visitor_waiting = visitor_waiting
        self._turns: OrderedDict[tuple, int] = OrderedDict()
        self._turn = 0

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
                    return [event], False, concurrency_id
        return None

    def _rank(self, event: Event) -> tuple:
        return (self._is_busy(event), *(self._turns.get(key, 0) for key in _keys(event)))

    def _is_busy(self, event: Event) -> bool:
        """Whether its visitor has another of that queue under way."""
        others = (other for job in self.active_jobs for other in job or ())
        return any(
            other.concurrency_id == event.concurrency_id and _visitor(other) == _visitor(event) for other in others
        )

    def _remember(self, event: Event) -> None:
        self._turn += 1
        for key in _keys(event):
            self._turns[key] = self._turn
            self._turns.move_to_end(key)
        while len(self._turns) > REMEMBERED:
            self._turns.popitem(last=False)


def _address(request: Any) -> str:
    return request.client.host if request is not None and request.client else ""


def _visitor(event: Event) -> tuple:
    """Address and session; programs that name no session are one visitor for each address."""
    return _address(event.request), None if event.session_hash == event._id else event.session_hash


def _keys(event: Event) -> tuple:
    visitor = _visitor(event)
    return visitor[:1], visitor
