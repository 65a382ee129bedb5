"""Checkpoints to resume from, and snapshots of networks on their way."""

import hashlib
import json
import shutil
import warnings
from pathlib import Path

from accelerate import Accelerator
from diffusers import ModelMixin
from torch import nn

from eat_hf.errors import InputWarning, UserError
from eat_hf.media.files import one_line, write_atomically

from .options import LoopOptions

WHOLE = "step.json"  # written last, at one go: a checkpoint without it was interrupted


def save_checkpoint(accelerator: Accelerator, reached: dict) -> None:
    """Everything to continue from, and delete what `keep_checkpoints` does not keep. `reached`: step, seconds, sums.

    What every file holds is noted, for not every reader notices that one is torn.
    """
    accelerator.project_configuration.iteration = reached["step"]  # names the folder
    folder = Path(accelerator.save_state())
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        files = {path.name: _digest(path) for path in sorted(folder.iterdir()) if path.is_file()}
        write_atomically(folder / WHOLE, json.dumps(reached | {"files": files}))
    accelerator.wait_for_everyone()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_files(folder: Path, digests: dict[str, str]) -> None:
    for name, digest in digests.items():
        if _digest(folder / name) != digest:
            raise UserError(f"{name} is not what was written")


def resume(accelerator: Accelerator, tasks: list[nn.Module], output: Path) -> dict:
    """Continue from the last whole checkpoint, if there is one: loads it, and makes log.jsonl end with it.

    One that a crash has torn is left out, with a warning.

    Returns:
        step: how many were done; seconds they took; sums of losses since the last line of the log.

    Raises:
        UserError: there are checkpoints, and none of them can be read.
    """
    # the tasks' own states, without the prefix of DistributedDataParallel: any number of processes can read them
    accelerator.register_save_state_pre_hook(
        lambda models, weights, folder: weights.__setitem__(slice(None), [task.state_dict() for task in tasks])
    )
    accelerator.register_load_state_pre_hook(lambda models, folder: models.__setitem__(slice(None), tasks))
    reached = {"step": 0, "seconds": 0.0, "sums": {}}
    checkpoints = sorted((output / "checkpoints").glob("checkpoint_*"), key=lambda path: int(path.name.split("_")[1]))
    whole = [path for path in checkpoints if (path / WHOLE).exists()]
    problem: Exception | None = None
    while whole:
        try:
            found = json.loads((whole[-1] / WHOLE).read_text())
            _check_files(whole[-1], found.pop("files", {}))
            accelerator.load_state(str(whole[-1]))
        except Exception as error:  # whatever a reader says of a file that a crash has torn
            problem = problem or error
            warnings.warn(
                f"The checkpoint {whole.pop()} cannot be read ({one_line(error)[:200]}); the one before it is tried.",
                InputWarning,
                stacklevel=2,
            )
            continue
        accelerator.step = 0  # of gradient accumulation, which may have changed
        reached = found
        accelerator.print(f"Resuming {output} at step {reached['step']}.")
        break
    if problem is not None and not whole:
        # which no crash explains; nothing is removed
        raise UserError(
            f"No checkpoint of {output} can be read ({one_line(problem)[:200]}); remove {output / 'checkpoints'} to "
            "start anew."
        ) from problem
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for path in set(checkpoints) - set(whole):
            shutil.rmtree(path)
        log = output / "log.jsonl"
        if log.exists():
            # a line at a time, so whatever a killed run wrote after the checkpoint's line is the end of the file
            lines = log.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= reached["step"]]
            write_atomically(log, "".join(kept))
    accelerator.wait_for_everyone()
    return reached


def training_record(steps: int, options: LoopOptions, seconds: float, device: str) -> dict:
    """What results.json says of how networks were trained."""
    return {"steps": steps, "batch_size": options.batch_size, "seconds": round(seconds), "device": device}


def save_snapshot(folder: Path, components: dict[str, ModelMixin], record: dict) -> None:
    """Networks on their way, laid out like the results of a run."""
    for name, component in components.items():
        component.save_pretrained(folder / name)
    write_atomically(folder / "results.json", json.dumps({"training": record}, indent=2))
