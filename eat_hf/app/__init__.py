"""The web demo: `build_app` makes the page of a pipeline, `launch` serves it. Needs the extra `eat_hf[app]`."""

from .page import build_app, launch

__all__ = ["build_app", "launch"]
