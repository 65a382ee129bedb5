"""One portrait, one recording, one emotion: python examples/generate.py [PORTRAIT RECORDING]"""

import sys
from pathlib import Path

from eat_hf import EATPipeline

HERE = Path(__file__).resolve().parent
portrait, voice = sys.argv[1:3] or (HERE / "portrait.png", HERE / "speech.wav")

pipe = EATPipeline.from_pretrained("eat-demo")
out = pipe(portrait, voice, emotion="happy", intensity=1.2, generator=0)
out.save("happy.mp4")
print(f"happy.mp4: {len(out.frames)} frames of {out.frames.shape[2]} x {out.frames.shape[1]} pixels")
