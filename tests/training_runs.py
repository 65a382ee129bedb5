"""Runs of the training loop in processes of their own, to be killed or to share a batch: a small task for them, too."""

import multiprocessing
import os
import signal
import socket
import threading
import time
import traceback
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import eat_hf
from training.corpus.heads import KEYPOINT_NAMES
from training.loop.command_line import Recipe
from training.loop.options import LoopOptions
from training.loop.trainer import train


def make_smoke_base(folder):
    """The smoke configuration's networks as they are made, as a model. Returns its folder."""
    recipe = Recipe.load("smoke")
    torch.manual_seed(0)
    names = eat_hf.EATPipeline.component_names()
    eat_hf.EATPipeline(**{name: recipe.build(name, KEYPOINT_NAMES) for name in names}).save_pretrained(folder)
    return folder


def run_main(script, *arguments):
    """A script's main, as if from the command line, once: Accelerate forgets it afterwards."""
    try:
        script.main(["--config", "smoke", *map(str, arguments)])
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()


class SmallNetwork(ModelMixin, ConfigMixin):
    """What is hard about training on several processes: batch norm, heads that few samples use, a call of a method."""

    @register_to_config
    def __init__(self, batch_norm: bool = True, dropout: float = 0.0):
        super().__init__()
        self.hidden = nn.Linear(3, 8, bias=False)  # batch norm would take a bias away again
        self.norm = nn.BatchNorm1d(8) if batch_norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(4))

    def describe(self, x):
        return self.drop(torch.relu(self.norm(self.hidden(x))))


class Critic(nn.Module):
    """An adversary: tells y from what the network makes. What spectral norm keeps in mind is no parameter."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(spectral_norm(nn.Linear(1, 8)), nn.ReLU(), spectral_norm(nn.Linear(8, 1)))

    def forward(self, batch):
        real, fake = self.layers(batch["real"]), self.layers(batch["fake"])
        return {"critic": torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()}


class SmallTask(nn.Module):
    def __init__(self, network, critic=None):
        super().__init__()
        self.network = network
        self.judge = critic and critic.layers.__call__

    def forward(self, batch):
        hidden = self.network.describe(batch["x"])
        out = torch.zeros_like(batch["y"])
        for kind in batch["kind"].unique().tolist():
            mine = batch["kind"] == kind
            out = out.masked_scatter(mine[:, None], self.network.heads[kind](hidden[mine]).to(out.dtype))
        losses = {
            "fit": (out - batch["y"]).square().mean(),
            "seen": ((out - batch["y"]).abs() * batch["weight"]).mean(),
        }
        if self.judge is None:
            return losses
        return losses | {"fooled": -self.judge(out).mean()}, {"real": batch["y"], "fake": out.detach()}


def small_run(folder, spoil=0, slow=0.0, hang=0, batch_norm=False, dropout=0.0, show=None, adversary=False, **options):
    """Train the small network. `spoil`: the step whose last sample is infinite. `slow`: seconds that a batch
    takes. `hang`: the step that never begins. `adversary`: a critic learns against it."""
    torch.manual_seed(0)
    network = SmallNetwork(batch_norm, dropout)
    critic = Critic() if adversary else None
    drawn = []

    def draw(rng, count):
        drawn.append(count)
        time.sleep(slow)
        if hang and rng.bit_generator.seed_seq.entropy[1] == hang - 1:
            threading.Event().wait()
        x = torch.from_numpy(rng.standard_normal((count, 3))).float()
        seen = torch.from_numpy(rng.random((count, 1)) < 0.4)
        weight = seen * (count / seen.sum().clamp_min(1))
        y = x.sum(1, keepdim=True)
        if spoil and rng.bit_generator.seed_seq.entropy[1] == spoil - 1:
            y[-1] = torch.inf
        return {
            "x": x + 0.1 * torch.randn(3),
            "y": y,
            "weight": weight,
            "kind": torch.from_numpy(rng.integers(4, size=count)),
        }

    settings = {"steps": 12, "batch_size": 8, "warmup_steps": 2, "log_every": 1, "checkpoint_every": 100} | options
    train(SmallTask(network, critic), draw, LoopOptions(str(folder), **settings), {"network": network},
          lambda: {"weight": network.hidden.weight.mean().item()},
          show and (lambda: show(network)), critic)  # fmt: skip


def kill_in_checkpoint(folder, step, **options):
    """A small run that is killed when the checkpoint of a step is partly written."""
    from accelerate import accelerator

    save = accelerator.save_custom_state

    def save_or_die(obj, path, *args, **kwargs):
        if Path(path).name == f"checkpoint_{step}":
            os.kill(os.getpid(), signal.SIGKILL)
        save(obj, path, *args, **kwargs)

    accelerator.save_custom_state = save_or_die
    small_run(folder, **options)


def start(function, *args, environment=None, **kwargs):
    """`function` in a new process, with environment variables; if it fails, the traceback is the process' last word."""
    context = multiprocessing.get_context("forkserver")  # imports torch once for all processes
    context.set_forkserver_preload(["training_runs", "training.loop"])
    process = context.Process(target=_call, args=(function, environment or {}, args, kwargs))
    process.start()
    return process


def _call(function, environment, args, kwargs):
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        function(*args, **kwargs)
    except Exception:
        if "FAILURE" in environment:
            Path(environment["FAILURE"]).write_text(traceback.format_exc())
        raise


def in_two_processes(folder, function, *args, **kwargs):
    """Call `function` in two processes that know of each other as `accelerate launch --cpu` lets them. Returns the
    tracebacks of those that failed."""
    folder.mkdir(parents=True, exist_ok=True)
    failures = [folder / f"failure_{rank}.txt" for rank in range(2)]
    processes = []
    port = free_port()
    for rank, failure in enumerate(failures):
        failure.unlink(missing_ok=True)
        environment = {
            "ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank),
            "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "FAILURE": str(failure),
        }  # fmt: skip
        processes.append(start(function, *args, environment=environment, **kwargs))
    for process in processes:
        process.join()
    return [failure.read_text() for failure in failures if failure.exists()]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
