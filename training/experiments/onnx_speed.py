"""The bundled renderer in PyTorch and, exported, in onnxruntime: processor seconds a batch on one thread, by turns.

python -m training.experiments.onnx_speed
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from eat_hf import EATPipeline
from eat_hf.animation.rendering import render_frames
from eat_hf.export.onnx_folder import export_onnx
from eat_hf.media.recordings import read_audio
from eat_hf.shipped import shipped

from ..loop.command_line import read_options, run_script

BATCH, SIZES = 8, (256, 512)


@dataclass
class OnnxSpeedOptions:
    """Options."""

    model: str = field(default="eat-demo", metadata={"help": "Pipeline folder, or eat-demo."})
    turns: int = field(default=5, metadata={"help": "Of each, of which the median is told."})


def main(argv: list[str] | None = None) -> None:
    options = read_options(OnnxSpeedOptions, argv)
    import onnxruntime

    torch.set_num_threads(1)
    pipe = EATPipeline.from_pretrained(options.model)
    pipe.set_progress_bar_config(disable=True)
    portrait, sound = (str(shipped(f"examples/{name}")) for name in ("portrait.png", "speech.wav"))
    threads = onnxruntime.SessionOptions()
    threads.intra_op_num_threads = threads.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(pipe.networks, Path(folder) / "graphs")
        session = onnxruntime.InferenceSession(Path(folder) / "graphs" / "renderer.onnx", threads)
    for size in SIZES:
        plan = pipe.plan_clip(portrait, read_audio(sound).first(BATCH / 25), "happy", generator=0, size=size)
        seen, driving, guidance = plan.portrait, plan.driving, plan.guidance
        assert guidance is not None
        given = {
            "detailed": seen.features.picture,
            "volume": seen.features.volume,
            "thumbnail": seen.features.thumbnail,
            "keypoints": seen.keypoints,
            "driving": driving[0],
            "guidance": guidance.expand(BATCH, -1),
        }
        inputs = {name: tensor.contiguous().numpy() for name, tensor in given.items()}

        def by_torch(seen=seen, driving=driving, guidance=guidance) -> None:
            list(render_frames(pipe.repos_net, seen, driving, guidance, BATCH))

        def by_onnx(inputs=inputs) -> None:
            session.run(None, inputs)

        found: dict[str, list[float]] = {"PyTorch": [], "onnxruntime": []}
        ways: dict[str, Callable[[], None]] = {"PyTorch": by_torch, "onnxruntime": by_onnx}
        for turn in range(options.turns + 1):
            for name, work in ways.items():
                start = time.process_time()
                work()
                if turn:  # the first warms up
                    found[name].append(time.process_time() - start)
        times = ", ".join(f"{name} {statistics.median(seconds):.3f} s" for name, seconds in found.items())
        print(f"{size}: {times} a batch of {BATCH}")


if __name__ == "__main__":
    run_script(main)
