"""Frames as they are made, into a file that is written meanwhile: python examples/stream.py [PORTRAIT RECORDING]"""

import sys
import time
from pathlib import Path

from eat_hf import EATPipeline
from eat_hf.media.recordings import read_audio
from eat_hf.media.videos import VideoWriter

HERE = Path(__file__).resolve().parent
portrait, voice = sys.argv[1:3] or (HERE / "portrait.png", HERE / "speech.wav")

pipe = EATPipeline.from_pretrained("eat-demo")
started, made = time.perf_counter(), 0
with VideoWriter("stream.mp4", read_audio(voice)) as video:
    for chunk in pipe.stream(portrait, voice, emotion="surprised", generator=0, batch_size=4):
        if not made:
            print(f"The first {len(chunk)} frames after {time.perf_counter() - started:.2f} s")
        video.write(chunk)
        made += len(chunk)
print(f"stream.mp4: {made} frames, {made / (time.perf_counter() - started):.0f} a second")
