"""Emotions and their strength change while somebody talks: python examples/timeline.py [PORTRAIT RECORDING]"""

import sys
from pathlib import Path

from eat_hf import EATPipeline

HERE = Path(__file__).resolve().parent
portrait, voice = sys.argv[1:3] or (HERE / "astronaut.jpg", HERE / "speech.wav")

pipe = EATPipeline.from_pretrained("eat-demo")
out = pipe(
    portrait,
    voice,
    emotion=[(0.0, "neutral"), (1.5, "happy"), (3.5, {"happy": 0.4, "surprised": 0.6})],  # seconds
    intensity=[(0.0, 0.5), (3.5, 1.3)],
    head_motion="still",
    paste_back=True,  # the whole picture, not only the face
    generator=0,
)
out.save("timeline.mp4")
print("timeline.mp4: neutral, happy, pleasantly surprised")
