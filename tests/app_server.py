"""The web demo as its own process: `app_server.py MODEL PORTRAIT VOICE LIMITS` prints its address."""

import json
import sys
import threading
from pathlib import Path

import torch

from eat_hf import EATPipeline
from eat_hf.app import build_app, launch
from eat_hf.app.studio import Example
from eat_hf.serving.limits import Limits

if __name__ == "__main__":
    torch.set_num_threads(1)
    model, portrait, voice, limits = sys.argv[1:]
    pipeline = EATPipeline.from_pretrained(model)
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
