"""What a pipeline takes from the voice alone: its emotions and its intensity."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..inputs.emotions import is_voice
from ..inputs.voice_intensity import voice_intensity
from ..media.recordings import Recording, read_audio
from .adaptable import AdaptablePipeline
from .arguments import AudioInput, ClipOptions
from .voice import VoiceEmotionInput, VoiceEmotionModels


class VoiceLedPipeline(AdaptablePipeline):
    """Networks that may show what the voice itself feels."""

    def __init__(self) -> None:
        super().__init__()
        self._voice_emotion_models = VoiceEmotionModels()  # shared with views

    def emotion_from_voice(
        self,
        audio: AudioInput,
        voice_emotion: VoiceEmotionInput | None = None,
        voice_labels: Mapping[str, str] | None = None,
        audio_track: int | None = None,
    ) -> list[tuple[float, dict[str, float]]]:
        """The timeline of emotions that `emotion="voice"` is, to look at and to edit: [(seconds, {emotion: weight})].

        Args:
            audio, audio_track: as for `__call__`.
            voice_emotion, voice_labels: see `ClipOptions`.

        Raises:
            UserError: no model is named, it cannot be had, or its labels are not known; or something about the audio.
        """
        return self._hear_emotions(read_audio(audio, audio_track), voice_emotion, voice_labels, self.emotions)

    def _hear_emotions(
        self,
        recording: Recording,
        voice_emotion: VoiceEmotionInput | None,
        labels: Mapping[str, str] | None,
        emotions: Sequence[str],
    ) -> list[tuple[float, dict[str, float]]]:
        model = self._voice_emotion_models.get(voice_emotion, labels, self._execution_device)
        return model.timeline(recording.waveform, emotions, self.progress_bar)

    @staticmethod
    def intensity_from_voice(audio: AudioInput, audio_track: int | None = None) -> list[tuple[float, float]]:
        """The timeline of intensity that `intensity="voice"` is, to look at and to edit: [(seconds, value)].

        Raises:
            UserError: something about the audio, in one sentence.
        """
        return voice_intensity(read_audio(audio, audio_track).waveform)

    def _follow_voice(self, options: ClipOptions, recording: Recording, emotions: Sequence[str]) -> ClipOptions:
        """The same with the timelines of the voice, where it is followed."""
        emotion, intensity = options.emotion, options.intensity
        if is_voice(emotion):
            emotion = self._hear_emotions(recording, options.voice_emotion, options.voice_labels, emotions)
        if is_voice(intensity):
            intensity = voice_intensity(recording.waveform)
        return replace(options, emotion=emotion, intensity=intensity)
