"""Many videos from a manifest: python examples/batch.py [PORTRAIT RECORDING]

The same on all GPUs: accelerate launch -m eat_hf.cli generate --manifest jobs.csv
"""

import csv
import sys
from pathlib import Path

from eat_hf.cli.main import main

HERE = Path(__file__).resolve().parent
portrait, voice = (Path(path).resolve() for path in sys.argv[1:3] or (HERE / "portrait.png", HERE / "speech.wav"))

with open("jobs.csv", "w", newline="") as file:
    manifest = csv.writer(file)
    manifest.writerow(["image", "audio", "output", "emotion", "intensity", "seed"])
    for emotion, intensity in (("happy", 1), ("sad", 1.3), ("happy=0.5,surprised=0.5", 1)):
        name = f"{emotion.replace('=', '_').replace(',', '_')}.mp4"  # relative to the manifest
        manifest.writerow([portrait, voice, name, emotion, intensity, 0])

main(["generate", "--manifest", "jobs.csv"])  # videos that exist are skipped, so this goes on after a stop
