"""The gate that every request to the page passes, whichever way it comes: what is asked for has the type and size that
is allowed, files are those that were uploaded, work has an end, and whatever goes wrong is one sentence.
"""

import math
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio.utils import get_upload_folder

from ..errors import UserError, shown
from ..serving.limits import Limits
from ..serving.telling import masked
from ..serving.turns import Turns
from ..serving.watch import Watch, timed
from .fair_queue import NETWORKS, visitor_of
from .notices import notice

LARGEST = 2**53  # of numbers: all whole ones up to here are exact
LONGEST_PATH = 1000
LONGEST_CHOICE = 300  # an adapter of several emotions bears all their names
STRANGE = "Something went wrong on the server; it has been noted in the log. Try again, or with other inputs."

Check = Callable[[Any, str], Any]


class Gate:
    """Args:
    demo: the page, with all its events; its `process_api` and handlers are replaced.
    limits: what is allowed.
    turns: that requests for the networks take: those of the queue `NETWORKS`.

    Raises:
        TypeError: an endpoint has no limit of time, or an input of a kind for which there are no limits.
    """

    def __init__(self, demo: gr.Blocks, limits: Limits, turns: Turns):
        self.demo, self.limits, self.watch = demo, limits, Watch()
        self._checks: dict[int, tuple[list[Check | None], list[str]]] = {}
        for number, event in demo.fns.items():
            if event.fn is None or event.is_cancel_function:
                continue
            self._checks[number] = ([self.check_of(block) for block in event.inputs], [_label(b) for b in event.inputs])
            seconds = self.seconds(event)
            sentence = (
                f"This took longer than {seconds:g} s, which is the limit here, and was ended. Ask for less at a time, "
                "or run eat_hf on your machine."
            )
            taken = turns if event.concurrency_id == NETWORKS else None
            event.fn = timed(event.fn, seconds, self.watch, self._asked, sentence, taken)
        self._process = demo.process_api
        demo.process_api = self.process  # type: ignore[method-assign]

    def seconds(self, event: Any) -> float:
        """How long an event of the page may take."""
        if event.api_visibility != "public":
            return self.limits.page_seconds
        if event.api_name not in self.limits.work_seconds:
            raise TypeError(f"The endpoint /{event.api_name} has no limit of time; add one to Limits.work_seconds.")
        return self.limits.work_seconds[event.api_name]

    def _asked(self) -> tuple[Callable[[], bool], tuple]:
        """A function that tells whether the visitor whose request this thread works on has left, and who that is."""
        event = self.demo._queue.event_ids_to_events.get(LocalContext.event_id.get(None) or "")
        return lambda: event is not None and not event.alive, () if event is None else visitor_of(event)

    async def process(self, block_fn, inputs, *arguments, iterator=None, **named) -> dict[str, Any]:
        """`Blocks.process_api`: values of the visitor in, values for the visitor out.

        Raises:
            gradio.Error: with a sentence for the visitor.
        """
        event = self.demo.fns[block_fn] if isinstance(block_fn, int) else block_fn
        secrets: list[str] = []
        try:
            if iterator is None and event._id in self._checks:
                secrets = [given for given in _passwords(event.inputs, inputs) if given.strip()]
                inputs = self.checked(event, inputs)
            return await self._process(block_fn, inputs, *arguments, iterator=iterator, **named)
        except gr.Error as error:
            raise notice(str(error.message), secrets) from None
        except UserError as error:
            raise notice(str(error), secrets) from None
        except Exception:
            print(masked(traceback.format_exc(), secrets), file=sys.stderr)
            raise notice(STRANGE) from None
        finally:
            state = named.get("state")
            if state is not None:  # where Gradio keeps, for deep links, what was typed, and 0.3 MB for every session
                state.config_values.clear()

    def checked(self, event: Any, values: Any) -> list[Any]:
        """What a visitor gave to an event, as far as it is allowed.

        Raises:
            UserError: a value is missing, or not what it should be.
        """
        checks, labels = self._checks[event._id]
        if not isinstance(values, list) or len(values) != len(checks):
            count = len(values) if isinstance(values, list) else "no"
            raise UserError(f"This takes {len(checks)} values, and {count} came; see the page's API.")
        return [
            None if check is None else check(value, label)
            for check, value, label in zip(checks, values, labels, strict=True)
        ]

    # A check takes a value and what it is called ---------------------------------------------------------------------

    def check_of(self, block: Any) -> Check | None:
        """What a component's values must be; None where the server itself keeps the value.

        Raises:
            TypeError: there are no limits for such components.
        """
        if isinstance(block, gr.State):
            return None
        if isinstance(block, gr.Textbox):
            return _text(block.max_length or self.limits.line)
        if isinstance(block, gr.Radio | gr.Dropdown):
            free = "preprocess" in vars(block) or getattr(block, "allow_custom_value", False)  # see `any_name`
            return _choice(None if free else [value for _, value in block.choices])
        if isinstance(block, gr.Slider):
            return _number
        if isinstance(block, gr.Number):
            return lambda value, label: None if value is None else _number(value, label)
        if isinstance(block, gr.Checkbox):
            return _flag
        if isinstance(block, gr.Dataset):
            return _index(len(block.samples or ()))
        if isinstance(block, gr.Image | gr.Audio | gr.Video):
            return lambda value, label: None if value is None else uploaded(value, label)
        if isinstance(block, gr.UploadButton):
            return self._files
        raise TypeError(f"There are no limits for inputs of the kind {type(block).__name__}; state them in Gate.")

    def _files(self, value: Any, label: str) -> list[dict[str, Any]] | None:
        if value is None:
            return None
        files = value if isinstance(value, list) else [value]
        if len(files) > self.limits.files:
            raise UserError(f"{label}: up to {self.limits.files} files are allowed here, and {len(files)} came.")
        return [uploaded(file, label) for file in files]


def uploaded(value: Any, label: str) -> dict[str, Any]:
    """A file that was uploaded to this page, or made by it for the visitor: its folder has a name that nobody guesses.

    Whatever else a visitor names gets one and the same answer, whether or not there is such a file.

    Raises:
        UserError: it is no such file.
    """
    path = value.get("path") if isinstance(value, dict) else None
    folder = os.path.realpath(get_upload_folder())
    if isinstance(path, str) and 0 < len(path) <= LONGEST_PATH and path.isprintable():
        real = os.path.realpath(path)
        # two folders deep, as Gradio keeps uploads and results: nothing else of its own
        inside = real.startswith(folder + os.sep) and os.path.relpath(real, folder).count(os.sep) == 1
        if inside and os.path.isfile(real):
            name = Path(real).name
            return {"path": real, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
    raise UserError(f"{label}: upload the file to this page; no other is used. Uploads are deleted within the hour.")


def _text(longest: int) -> Check:
    def check(value: Any, label: str) -> str:
        text = "" if value is None else value
        if not isinstance(text, str):
            raise UserError(f"{label} is a text, not {shown(value)}.")
        if len(text) > longest:
            raise UserError(f"{label} has {len(text)} characters; up to {longest} are allowed.")
        return text.encode("utf8", "replace").decode("utf8")  # halves of surrogate pairs cannot be written

    return check


def _choice(choices: list[Any] | None) -> Check:
    """Of a component's choices; None are those that the pipeline knows, which has a sentence of its own."""

    def check(value: Any, label: str) -> str | None:
        if value is not None and (not isinstance(value, str) or len(value) > LONGEST_CHOICE):
            raise UserError(f"{label} is one of the choices, not {shown(value)}.")
        if choices is not None and value not in choices:
            raise UserError(f"{label} is one of {', '.join(map(str, choices))}, not {shown(value)}.")
        return value

    return check


def _number(value: Any, label: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{label} is a number, not {shown(value)}.")
    if abs(value) > LARGEST:
        raise UserError(f"{label} is too large a number.")
    return value


def _flag(value: Any, label: str) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{label} is true or false, not {shown(value)}.")
    return value


def _index(count: int) -> Check:
    def check(value: Any, label: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
            raise UserError(f"There is no example {shown(value)}.")
        return value

    return check


def _label(block: Any) -> str:
    return re.sub(r"\s*[:(].*", "", getattr(block, "label", None) or type(block).__name__)


def _is_password(block: Any) -> bool:
    return isinstance(block, gr.Textbox) and block.type == "password"


def _passwords(blocks: Any, values: Any) -> list[str]:
    if not isinstance(values, list):
        return []
    return [
        value for block, value in zip(blocks, values, strict=False) if _is_password(block) and isinstance(value, str)
    ]
