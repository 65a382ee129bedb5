"""An emotion in words, at once and then learnt with CLIP: python examples/words.py [PORTRAIT RECORDING]"""

import sys
from pathlib import Path

from eat_hf import EATPipeline

HERE = Path(__file__).resolve().parent
portrait, voice = sys.argv[1:3] or (HERE / "portrait.png", HERE / "speech.wav")

pipe = EATPipeline.from_pretrained("eat-demo")
pipe(portrait, voice, emotion_text="slightly smiling with raised eyebrows", generator=0).save("at_once.mp4")
print("at_once.mp4: what the sentence says, mildly")

# half a minute on one core; the paper's CLIP, if it is in the cache, else the small one of the checkpoint
pipe.learn_emotion("She is talking while crying hard.", portrait, voice, "crying", generator=0)
pipe.save_adapter("crying", "crying_adapter")
pipe(portrait, voice, emotion={"crying": 0.7, "sad": 0.3}, generator=0).save("learnt.mp4")
print("learnt.mp4: crying, with sadness; the emotion itself is in crying_adapter")
