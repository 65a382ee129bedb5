"""The README's moving picture, four emotions of a portrait: python examples/emotions.py [PORTRAIT RECORDING]"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eat_hf import EATPipeline
from eat_hf.media.recordings import read_audio

HERE = Path(__file__).resolve().parent
portrait, voice = sys.argv[1:3] or (HERE / "astronaut.jpg", HERE / "speech.wav")

pipe = EATPipeline.from_pretrained("eat-demo")
clips = []
for emotion in ("happy", "angry", "sad", "surprised"):
    out = pipe(portrait, read_audio(voice).first(3.2), emotion=emotion, intensity=1.3, size=256, generator=0)
    frames = [Image.fromarray(frame) for frame in out.frames[::2]]  # 12.5 a second
    for frame in frames:
        draw, font = ImageDraw.Draw(frame), ImageFont.load_default(18)
        draw.text((10, 246), emotion, "white", font, "ls", stroke_width=2, stroke_fill="black")
    clips.append(np.stack([np.asarray(frame) for frame in frames]))
pictures = np.concatenate([np.concatenate(clips[:2], 2), np.concatenate(clips[2:], 2)], 1)  # (n, 512, 512, 3)
first, *others = map(Image.fromarray, pictures)
first.save("emotions.webp", save_all=True, append_images=others, duration=80, loop=0, quality=60, method=4)
print(f"emotions.webp: {len(pictures)} pictures, {Path('emotions.webp').stat().st_size / 1e6:.1f} MB")
