"""The web demo as its own process: `app_server.py MODEL PORTRAIT VOICE LIMITS` prints its address."""

import json
import os
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch

from eat_hf import EATPipeline
from eat_hf.app import build_app, launch
from eat_hf.app.studio import Example
from eat_hf.serving.limits import Limits
from eat_hf.serving.turns import give_way

HELD = int(os.environ.get("HELD", "0"))  # frames of clips that can be held


class HeldPipeline(EATPipeline):
    """Clips of `HELD` frames last, after the first of them, as long as there is a file `hold`; whenever one begins to
    wait, a line goes to the file `held`. Like all long work they let others go first."""

    def render_clip(self, plan, paste_back: bool = False) -> Generator[np.ndarray, None, None]:
        hold, told = Path("hold"), False
        for frames in super().render_clip(plan, paste_back):
            yield frames
            while len(plan) == HELD and hold.exists():
                if not told:
                    with Path("held").open("a") as held:
                        held.write("a clip\n")
                told = True
                give_way()
                time.sleep(0.02)


if __name__ == "__main__":
    torch.set_num_threads(1)
    model, portrait, voice, limits = sys.argv[1:]
    pipeline = HeldPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    given = {"seconds": 4, "side": 1500, "megabytes": 3, **json.loads(limits)}
    given["work_seconds"] = {**Limits().work_seconds, **given.pop("work_seconds", {})}
    demo = build_app(pipeline, Limits(**given), examples=[Example(Path(portrait), Path(voice), "sad")])
    address = launch(
        demo,
        prevent_thread_lock=True,
        quiet=True,
        server_name="127.0.0.1",
    )[1]
    print(address, flush=True)
    threading.Event().wait()
