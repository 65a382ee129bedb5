"""What strangers are told: nothing of the server's own, and nothing that a page would obey."""

import re
from collections.abc import Sequence

FOLDERS = re.compile(r"(?<![\w:/.])/(?:[^/\s]+/)+")  # of the server, which are no visitor's business
TOKENS = re.compile(r"hf_[A-Za-z0-9]{16,}")
LONGEST = 600  # characters of a message
MARKUP = str.maketrans({"<": "‹", ">": "›", "\N{LINE SEPARATOR}": " ", "\N{PARAGRAPH SEPARATOR}": " "})


def without_folders(text: str) -> str:
    """ "The recording /uploads/1f/voice.wav lasts ..." -> "The recording voice.wav lasts ..." """
    return FOLDERS.sub("", text)


def masked(text: str, secrets: Sequence[str] = ()) -> str:
    """A text without tokens of the Hub, and without some secrets, which may be anything."""
    forms = {form for secret in secrets for form in (secret, secret.strip(), repr(secret)[1:-1])}
    for form in sorted(forms, key=len, reverse=True):
        if len(form) >= 4:  # shorter ones are in every text, and nobody's token
            text = text.replace(form, "***")
    return TOKENS.sub("hf_***", text)


def told(text: str, secrets: Sequence[str] = ()) -> str:
    """A message as the page may show it, which takes it for HTML: no markup, no folders, no secrets, not endless."""
    text = without_folders(masked(text, secrets)).translate(MARKUP)
    text = "".join(sign if sign.isprintable() else " " for sign in text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
