"""What the service counts, for Prometheus."""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

DELAYS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # seconds


class Metrics:
    """Attributes:
    registry: of one service, so that several may run in a process.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"namespace": "eat_hf", "registry": self.registry}
        self.requests = Counter("requests", "Requests, by route and status", ["route", "status"], **named)
        self.under_way = Gauge("videos_under_way", "Videos that are made now, or wait for their turn", **named)
        self.live_sessions = Gauge("live_sessions", "Live sessions that are open", **named)
        self.frames = Counter("frames", "Frames that were made, by kind", ["kind"], **named)
        self.dropped = Counter("frames_dropped", "Frames of live sessions that there was no time for", **named)
        self.sound = Counter("sound_seconds", "Seconds of live sound that were heard", **named)
        self.delay = Histogram(
            "live_delay_seconds", "From the sound that makes a frame certain to the frame", buckets=DELAYS, **named
        )
