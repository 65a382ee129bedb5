"""The service as its own process: `service_server.py MODEL PORT LIMITS` serves a model there."""

import json
import os
import sys

import torch
import uvicorn

from eat_hf import EATPipeline
from eat_hf.service.server import build_service
from eat_hf.serving.limits import Limits

if __name__ == "__main__":
    torch.set_num_threads(1)
    model, port, limits = sys.argv[1:]
    pipeline = EATPipeline.from_pretrained(model)
    pipeline.set_progress_bar_config(disable=True)
    app = build_service(pipeline, Limits(**json.loads(limits)), os.environ.get("EAT_HF_API_KEY"))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", ws_max_size=5_000_000)
