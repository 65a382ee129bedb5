"""Measuring talking-head videos against real ones, the way the field does; see `evaluate`."""

import importlib
from typing import TYPE_CHECKING

_EXPORTS = {
    "Evaluation": "suite",
    "evaluate": "suite",
    "EvaluationReport": "report",
    "markdown_table": "report",
    "merge": "report",
    "terminal_table": "report",
    "write_page": "page",
}

__all__ = ["Evaluation", "EvaluationReport", "evaluate", "markdown_table", "merge", "terminal_table", "write_page"]


def __getattr__(name: str):
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if TYPE_CHECKING:
    from .page import write_page
    from .report import EvaluationReport, markdown_table, merge, terminal_table
    from .suite import Evaluation, evaluate
