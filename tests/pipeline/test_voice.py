"""emotion="voice" and intensity="voice": what is heard shows as a timeline of one's own would."""

import numpy as np
import pytest
from tiny_voice_emotion import hum, save_classifier

from eat_hf import VoiceEmotionModel
from eat_hf.constants import VOICE_EMOTION_VARIABLE
from eat_hf.errors import RepositoryError, UserError
from eat_hf.pipeline import voice as module
from eat_hf.pipeline.arguments import ClipOptions

RATE = 16_000
STILL = {"align": False, "head_motion": "still", "generator": 3, "size": 256}

pytestmark = pytest.mark.usefixtures("faces_found_once")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return save_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def sound():
    """A happy voice, then a sad and soft one; 6 s in all."""
    return np.concatenate([hum("hap", 3, 1), 0.3 * hum("sad", 3, 2)]), RATE


@pytest.fixture
def face(portrait):
    return portrait[:256, 96:352]


def felt(pipe, face, sound, **options):
    """Weights of all emotions in every frame of a clip, whose expression is not computed."""
    return pipe.plan_clip(face, sound, **STILL, **options).mix.weights


def test_the_voices_emotions_show_as_its_timeline_does(live_pipeline, face, sound, classifier):
    timeline = live_pipeline.emotion_from_voice(sound, classifier)
    assert len(timeline) > 1 and max(timeline[-1][1], key=timeline[-1][1].get) == "sad"
    followed = felt(live_pipeline, face, sound, emotion="voice", voice_emotion=classifier)
    assert (followed == felt(live_pipeline, face, sound, emotion=timeline)).all()
    happy, sad = (followed[:, live_pipeline.emotions.index(name)] for name in ("happy", "sad"))
    assert happy[20] > 0.5 > sad[20] and sad[-20] > 0.5 > happy[-20]
    model = VoiceEmotionModel.load(classifier)
    assert (felt(live_pipeline, face, sound, emotion="voice", voice_emotion=model) == followed).all()


def test_the_voices_liveliness_shows_as_its_timeline_does(live_pipeline, face, sound):
    timeline = live_pipeline.intensity_from_voice(sound)
    followed = felt(live_pipeline, face, sound, emotion="happy", intensity="voice")
    assert (followed == felt(live_pipeline, face, sound, emotion="happy", intensity=timeline)).all()
    happy = followed[:, live_pipeline.emotions.index("happy")]
    assert happy[20:60].mean() > happy[90:130].mean() + 0.2


def test_a_call_and_a_stream_give_the_same_frames(live_pipeline, face, classifier):
    sound = hum("hap", 0.2, 1), RATE
    both = {"emotion": "voice", "intensity": "voice", "voice_emotion": classifier, **STILL}
    frames = live_pipeline(face, sound, **both).frames
    assert (frames == np.concatenate(list(live_pipeline.stream(face, sound, **both)))).all()
    assert frames.shape == (5, 256, 256, 3)


def test_labels_can_be_said_and_loaded_models_keep_theirs(live_pipeline, sound, classifier):
    meaning = {"hap": "surprised", "sad": "fear", "neu": "neutral"}
    said = live_pipeline.emotion_from_voice(sound, classifier, meaning)
    assert {name for _, weights in said for name in weights} >= {"surprised", "fear"}
    assert live_pipeline.emotion_from_voice(sound, VoiceEmotionModel.load(classifier, meaning)) == said
    assert "happy" in live_pipeline.emotion_from_voice(sound, classifier)[0][1]  # the next call knows nothing of it


def test_it_is_read_once_for_a_pipeline_and_its_views(live_pipeline, classifier, monkeypatch):
    live_pipeline.emotion_from_voice((hum("hap", 1), RATE), classifier)
    monkeypatch.setattr(module.VoiceEmotionModel, "load", None)
    live_pipeline.with_adapters({}).emotion_from_voice((hum("sad", 1), RATE), classifier)


def test_without_a_model_it_is_one_sentence(live_pipeline, face, sound, classifier, monkeypatch):
    monkeypatch.delenv(VOICE_EMOTION_VARIABLE, raising=False)
    with pytest.raises(UserError, match=r"Which model hears the voice's emotions\? Name one .* none is bundled"):
        live_pipeline(face, sound, "voice")
    with pytest.raises(RepositoryError, match="neither a folder nor the name of a repository"):
        live_pipeline(face, sound, "voice", voice_emotion="./nothing/at/all")
    monkeypatch.setenv(VOICE_EMOTION_VARIABLE, str(classifier))
    assert live_pipeline.emotion_from_voice(sound) == live_pipeline.emotion_from_voice(sound, classifier)


@pytest.mark.parametrize("options", [{"emotion": "voice"}, {"intensity": "voice"}])
def test_live_sound_is_no_whole_recording(live_pipeline, face, options):
    with pytest.raises(UserError, match="whole recording, which live sound has not; name an emotion and a number"):
        live_pipeline.live(face, **STILL, **options)
    session = live_pipeline.live(face, **STILL)
    with pytest.raises(UserError, match="whole recording"):
        session.set(**options)


def test_no_emotion_is_called_so(live_pipeline, face, sound):
    with pytest.raises(UserError, match="cannot be called 'voice', which means what the voice feels"):
        live_pipeline.learn_emotion("She smiles.", face, sound, "voice")
    for options in ({"emotion": {"voice": 1}}, {"emotion": [(0, "voice")]}):
        with pytest.raises(UserError, match="Unknown emotion 'voice'"):
            felt(live_pipeline, face, sound, **options)
    with pytest.raises(UserError, match="between 0 and 1.5, or 'voice', not 'loud'"):
        ClipOptions(intensity="loud")
