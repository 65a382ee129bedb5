"""What emotions and adapters may be called. A name is words for people: never a path, markup or a terminal's escape."""

import re
import unicodedata

from .constants import VOICE
from .errors import UserError, shown

LONGEST_NAME = 64  # characters
BETWEEN = " -_"
RULE = (
    f"names are up to {LONGEST_NAME} letters, digits, spaces, '-' and '_', and begin and end with a letter or a digit"
)


def check_name(name: object, what: str = "An emotion") -> str:
    """The name itself; letters are those of any script.

    Args:
        what: is called so, to begin the sentence with.

    Raises:
        UserError: it is no name.
    """
    if not isinstance(name, str) or not _is_name(name):
        raise UserError(f"{what} cannot be called {shown(name)}: {RULE}; give another name.")
    if name == VOICE:
        raise UserError(f"{what} cannot be called {name!r}, which means what the voice feels; give another name.")
    return name


def as_name(text: str, longest: int = LONGEST_NAME) -> str:
    """The nearest name to any text, "" if there is none: "take 3 (final).wav" -> "take 3 _final_wav"."""
    known = "".join(sign if _in_word(sign) or sign in BETWEEN else "_" for sign in unicodedata.normalize("NFC", text))
    known = re.sub(r"_{2,}", "_", known).lstrip(BETWEEN)
    while known and unicodedata.category(known[0])[0] == "M":  # accents, of no letter
        known = known[1:].lstrip(BETWEEN)
    return known[:longest].rstrip(BETWEEN)


def _is_name(name: str) -> bool:
    return (
        0 < len(name) <= LONGEST_NAME
        and all(_in_word(sign) or sign in BETWEEN for sign in name)
        and unicodedata.category(name[0])[0] in "LN"
        and name[-1] not in BETWEEN
    )


def _in_word(sign: str) -> bool:
    """A letter, an accent upon one, or a decimal digit."""
    category = unicodedata.category(sign)
    return category[0] in "LM" or category == "Nd"
