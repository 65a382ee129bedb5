"""The web demo as its own process: `app_server.py MODEL PORTRAIT VOICE` prints its address. For test_app.py."""

import sys
import threading
from pathlib import Path

import torch

from eat_hf import EATPipeline
from eat_hf.app import build_app, launch
from eat_hf.app.limits import Limits
from eat_hf.app.studio import Example

if __name__ == "__main__":
    torch.set_num_threads(1)
    model, portrait, voice = sys.argv[1:]
    pipeline = EATPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    demo = build_app(
        pipeline, Limits(seconds=4, side=1500, megabytes=3), examples=[Example(Path(portrait), Path(voice), "sad")]
    )
    address = launch(
        demo,
        prevent_thread_lock=True,
        quiet=True,
        server_name="127.0.0.1",
        allowed_paths=[str(Path(portrait).parent)],
    )[1]
    print(address, flush=True)
    threading.Event().wait()
