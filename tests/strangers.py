"""Requests as a stranger sends them: HTTP without a client that means well."""

import json
from typing import Any

import httpx


class Stranger:
    """Attributes: url, of the page; http, a client of its own, from another of this machine's addresses if asked."""

    def __init__(self, url: str, timeout: float = 300, address: str | None = None):
        self.url = url.rstrip("/")
        way = httpx.HTTPTransport(local_address=address)
        self.http = httpx.Client(base_url=f"{self.url}/gradio_api/", timeout=timeout, transport=way)

    def info(self) -> dict[str, Any]:
        """Endpoints and their parameters, as the page tells them."""
        return self.http.get("info").raise_for_status().json()["named_endpoints"]

    def post(
        self, endpoint: str, data: Any, session: str | None = None, kind: str = "application/json"
    ) -> httpx.Response:
        body = {"data": data, **({"session_hash": session} if session else {})}
        return self.http.post(f"call/{endpoint}", content=json.dumps(body), headers={"content-type": kind})

    def wait(self, endpoint: str, event: str) -> tuple[str, Any]:
        """("complete" or "error", what came)."""
        last = ("", None)
        with self.http.stream("GET", f"call/{endpoint}/{event}") as stream:
            kind = ""
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: ") and kind in ("complete", "error"):
                    return kind, json.loads(line.removeprefix("data: "))
        return last

    def ask(self, endpoint: str, data: Any) -> tuple[str, Any]:
        """`wait`; a request that is refused at the door is an error, too."""
        response = self.post(endpoint, data)
        if response.status_code != 200:
            return "error", response.json()
        return self.wait(endpoint, response.json()["event_id"])

    def upload(self, *files: tuple[str, bytes]) -> list[str]:
        response = self.http.post("upload", files=[("files", file) for file in files])
        return response.raise_for_status().json()


def sentence(answer: tuple[str, Any]) -> str:
    """What an error says; fails where it says nothing, or what is no visitor's business."""
    kind, content = answer
    assert kind == "error", answer
    words = content.get("error")
    assert isinstance(words, str) and len(words) > 10 and words.rstrip()[-1] in ".!?", content
    assert "Traceback" not in words and "/tmp" not in words and "Errno" not in words, words
    return words
