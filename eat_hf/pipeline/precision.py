"""Which precision the renderer computes in; all else stays in float32, for keypoints do not survive less."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

INSTRUCTIONS = {
    torch.bfloat16: ("avx512_bf16", "amx_tile"),
    torch.float16: ("amx_fp16",),
}  # of x86, as torch calls them


def renderer_dtype(asked: Any) -> Any:
    """What the renderer's numbers shall be, in what `from_pretrained` was asked for.

    Args:
        asked: a torch.dtype or its name, "auto", a dictionary of them by component, or None.

    Returns:
        a torch.dtype, or "auto".

    Raises:
        ValueError: no such dtype, or one for a component that stays in float32.
    """
    if asked is None:
        return torch.float32
    if isinstance(asked, Mapping):
        for name, dtype in asked.items():
            if name not in ("repos_net", "default") and renderer_dtype(dtype) != torch.float32:
                raise ValueError(f"{name} stays in float32; of dtype={dtype} only repos_net can be.")
        return renderer_dtype(asked.get("repos_net", asked.get("default")))
    dtype = getattr(torch, asked.removeprefix("torch."), asked) if isinstance(asked, str) else asked
    if dtype != "auto" and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype must be a floating-point torch.dtype, its name or 'auto', not {asked!r}.")
    return dtype


def saved_dtype(folder: Path) -> torch.dtype:
    """The precision in which a model folder holds its renderer."""
    file = min((folder / "repos_net").glob("*.safetensors"))
    with safe_open(file, "pt") as stored:
        kinds = (stored.get_slice(name).get_dtype() for name in stored.keys())
        return next({"BF16": torch.bfloat16, "F16": torch.float16}.get(kind, torch.float32) for kind in kinds)


def is_emulated(dtype: torch.dtype) -> bool:
    """Whether this x86 processor lacks instructions for a precision, and takes longer in it than in float32; False
    where nobody can tell."""
    if dtype not in INSTRUCTIONS or platform.machine() not in ("x86_64", "AMD64"):
        return False
    known = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in INSTRUCTIONS[dtype]]
    return None not in known and not any(has() for has in known if has)
