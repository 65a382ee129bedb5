"""Numbers and names that everything agrees on, each written once."""

FPS = 25  # video frames a second, and with them mel columns, semantic windows and poses
SAMPLING_RATE = 16_000  # Hz of the waveform that the networks hear

NEUTRAL = "neutral"
VOICE = "voice"  # the emotion, or intensity, that follows the voice
VOICE_EMOTION_VARIABLE = "EAT_HF_VOICE_EMOTION"  # of the environment: the model that hears emotions
EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", NEUTRAL, "sad", "surprised")
