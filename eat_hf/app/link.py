"""Settings in the page's address, `?emotion=happy&intensity=1.2`: read with the same care as every other request."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from ..errors import UserError, shown
from .studio import Example

LONGEST = 4000  # characters of all settings
MOST = 40  # settings


@dataclass(frozen=True)
class Asked:
    """What an address asks for. Attributes: tab; example, an index or None; values, of that tab's settings by name."""

    tab: str
    example: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


class Link:
    """The settings of all tabs that an address may hold.

    Attributes:
        settings: (tab, name) of each; components: those whose values they are.
    """

    def __init__(self) -> None:
        self.settings: list[tuple[str, str]] = []
        self.components: list[gr.components.Component] = []
        self._reads: dict[tuple[str, str], Callable[[str], Any]] = {}

    def add(self, tab: str, **components: gr.components.Component) -> None:
        """Settings of a tab, by the names that they have in an address.

        Raises:
            TypeError: a component is of a kind that no address can set.
        """
        for name, component in components.items():
            self._reads[tab, name] = _reader(component)
            self.settings.append((tab, name))
            self.components.append(component)

    def read(self, search: str, examples: Sequence[Example]) -> Asked:
        """The part of an address after `?`. What is no setting of its tab is left alone: others write there, too.

        Raises:
            UserError: a setting cannot be what it says.
        """
        if len(search) > LONGEST:
            raise UserError(f"The link has {len(search)} characters of settings; up to {LONGEST} are read.")
        try:
            given = dict(parse_qsl(search.removeprefix("?"), max_num_fields=MOST))
        except ValueError:
            raise UserError(f"The link has more than {MOST} settings.") from None
        tabs = list(dict.fromkeys(tab for tab, _ in self.settings))
        tab = given.get("tab", tabs[0])
        if tab not in tabs:
            raise UserError(f"The link's tab is one of {', '.join(tabs)}, not {shown(tab)}.")
        names = [example.portrait.stem for example in examples]
        example = given.get("example")
        if example is not None and example not in names:
            raise UserError(f"The link's example is one of {', '.join(names)}, not {shown(example)}.")
        values = {}
        for name, text in given.items():
            if (tab, name) in self._reads:
                try:
                    values[name] = self._reads[tab, name](text)
                except ValueError as error:
                    raise UserError(f"The link's {name} is {error}, not {shown(text)}.") from None
        return Asked(tab, None if example is None else names.index(example), values)

    def updates(self, tab: str, values: Mapping[str, Any]) -> list[Any]:
        """Of all components: the values of a tab, and nothing for the others."""
        return [values.get(name, gr.skip()) if at == tab else gr.skip() for at, name in self.settings]

    def script(self, examples: Sequence[Example]) -> str:
        """JavaScript (see page.js): the address, of the portrait, the voice and all components' values."""
        known = [(example.portrait.stem, example.voice.stem) for example in examples]
        given = f"{json.dumps(self.settings)}, {json.dumps(known)}"
        return f"(portrait, voice, ...values) => eatCopy(eatLink({given}, portrait, voice, values))"


def _reader(component: Any) -> Callable[[str], Any]:
    """A function from the text in an address to a value; it raises a ValueError that says what may be there."""
    if isinstance(component, gr.Slider):
        return lambda text: _number(text, component.minimum, component.maximum)
    if isinstance(component, gr.Number):
        return lambda text: int(_number(text, component.minimum or 0, 2**53, whole=True))
    if isinstance(component, gr.Radio | gr.Dropdown):
        return lambda text: _choice(text, [value for _, value in component.choices])
    if isinstance(component, gr.Textbox):
        return lambda text: _text(text, component.max_length or LONGEST)
    raise TypeError(f"No address can set a {type(component).__name__}.")


def _number(text: str, least: float, most: float, whole: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most or (whole and value != int(value)):
        raise ValueError(f"a {'whole ' if whole else ''}number from {least:g} to {most:g}")
    return value


def _choice(text: str, choices: Sequence[str]) -> str:
    if text not in choices:
        raise ValueError(f"one of {', '.join(choices)}")
    return text


def _text(text: str, longest: int) -> str:
    if len(text) > longest:
        raise ValueError(f"a text of up to {longest} characters")
    return text
