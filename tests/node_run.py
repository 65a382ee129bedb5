"""A small run of the training loop, as every node of several is told to start it: `node_run.py FOLDER`."""

import sys
from pathlib import Path

import torch
from training_runs import small_run

if __name__ == "__main__":
    torch.set_num_threads(1)
    small_run(Path(sys.argv[1]), steps=6)
