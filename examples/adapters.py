"""Emotions that came later, alone and mixed: python examples/adapters.py [PORTRAIT RECORDING]"""

import sys
from pathlib import Path

from eat_hf import EATPipeline

HERE = Path(__file__).resolve().parent
portrait, voice = sys.argv[1:3] or (HERE / "portrait.png", HERE / "speech.wav")

pipe = EATPipeline.from_pretrained("eat-demo")
for folder in sorted((HERE / "adapters").iterdir()):  # or ids of the Hub
    pipe.load_adapter(folder)
print("Emotions:", ", ".join(pipe.emotions))

for name, emotion in {"crying": "crying_hard", "bittersweet": {"crying_hard": 0.4, "a_little_smile": 0.6}}.items():
    pipe(portrait, voice, emotion=emotion, generator=0).save(f"{name}.mp4")
    print(f"{name}.mp4: {emotion}")
