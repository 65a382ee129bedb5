"""Speech, visemes, emotions and animation of the synthetic corpus, with the real espeak-ng."""

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

from eat_hf.errors import UserError  # noqa: E402
from eat_hf.media import espeak  # noqa: E402
from training.corpus import emotions, heads, sentences, speech, visemes  # noqa: E402
from training.corpus.animation import animate  # noqa: E402
from training.corpus.people import sample_identity  # noqa: E402

SENTENCE = "Bob may put my big map by the pump, but Pam will keep five thick books."


def spoken(text=SENTENCE, voice="en-us", emotion="neutral", level=0, seed=0):
    rng = np.random.default_rng(seed)
    return speech.say(text, voice, speech.prosody_of(emotion, level, rng), rng)


def inner_lip_gap(identity, arkit):
    """Mean vertical distance of the inner lips (T,) in pixels, positive when they are apart."""
    points = identity.landmarks + np.tensordot(arkit, identity.landmark_basis, 1)
    return (points[:, [67, 66, 65], 1] - points[:, [61, 62, 63], 1]).mean(1) * heads.FRAME / 2


@pytest.fixture(scope="module")
def identities():
    return [sample_identity(np.random.default_rng(seed)) for seed in range(3)]


def test_phonemes_tile_the_sound():
    said = spoken()
    assert said.waveform.dtype == np.float32 and np.abs(said.waveform).max() <= 1
    assert len(said.waveform) == said.frames * 640 and len(said.energy) == said.frames
    assert said.times[0, 0] == 0 and said.times[-1, 1] == pytest.approx(len(said.waveform) / 16000)
    np.testing.assert_allclose(said.times[1:, 0], said.times[:-1, 1], atol=1e-5)
    assert (said.times[:, 1] > said.times[:, 0]).all()
    assert said.phonemes[0] == said.phonemes[-1] == visemes.SILENCE
    assert "b" in said.phonemes and "p" in said.phonemes and "m" in said.phonemes


@pytest.mark.parametrize("seed", range(3))
def test_phoneme_times_agree_with_the_sound(seed):
    """Measured on the recording itself, after speed change, padding and added pauses: vowels carry much more power
    than the silences, so a shift of the labels against the samples would show."""
    said = spoken(seed=seed)

    def power(wanted):
        spans = [(a, b) for p, (a, b) in zip(said.phonemes, said.times, strict=True) if wanted(p) and b - a > 0.04]
        return np.mean([np.mean(said.waveform[int(a * 16000) : int(b * 16000)] ** 2) for a, b in spans])

    vowels = power(lambda p: visemes.atoms(p)[0] in "ɑæɪɛʌu")
    assert vowels > 4 * power(lambda p: p == visemes.SILENCE)
    loud = np.flatnonzero(said.energy > 0.3) / 25
    assert said.times[0, 1] - 0.1 < loud[0] < said.times[0, 1] + 0.2
    assert said.times[-1, 0] - 0.3 < loud[-1] < said.times[-1, 0] + 0.1


def test_speech_does_not_depend_on_what_was_said_before():
    first, first_rate, first_phonemes = speech.synthesize(SENTENCE, "en-us+f3", seed=5)
    speech.synthesize("Something else entirely.", "en-gb-scotland+m3", seed=9)
    again, rate, phonemes = speech.synthesize(SENTENCE, "en-us+f3", seed=5)
    assert rate == first_rate and phonemes == first_phonemes
    np.testing.assert_array_equal(first, again)


def test_prosody_follows_emotion():
    rng = np.random.default_rng(0)
    angry, sad = ([speech.prosody_of(e, 3, rng) for _ in range(20)] for e in ("angry", "sad"))

    def mean(prosodies, name):
        return np.mean([getattr(p, name) for p in prosodies])

    for name in ("rate", "pitch", "pitch_range", "loudness", "effort"):
        assert mean(angry, name) > mean(sad, name)
    fast = speech.synthesize(SENTENCE, prosody=speech.Prosody(rate=240))[0]
    slow = speech.synthesize(SENTENCE, prosody=speech.Prosody(rate=120))[0]
    assert len(slow) > 1.4 * len(fast)


def test_every_voice_speaks_and_splits_share_none():
    by_split = {split: {v for voices in genders.values() for v in voices} for split, genders in speech.VOICES.items()}
    assert not by_split["train"] & by_split["test"] and not by_split["train"] & by_split["validation"]
    variants = {split: {v.split("+")[1] for v in voices} for split, voices in by_split.items()}
    assert not variants["train"] & variants["test"] and not variants["validation"] & variants["test"]
    for voice in sorted(set().union(*by_split.values())):
        samples, _, phonemes = speech.synthesize("Maybe.", voice)
        assert np.abs(samples).max() > 0.05 and len(phonemes) >= 4, voice


def test_mistakes_are_explained(monkeypatch):
    with pytest.raises(ValueError, match="no voice named 'klingon-x'"):
        speech.synthesize("Hello", "klingon-x")
    with pytest.raises(ValueError, match="nothing to say"):
        speech.synthesize("  ")
    monkeypatch.setattr(espeak, "is_installed", lambda: False)
    with pytest.raises(UserError, match="pip install espeakng-loader"):
        speech.synthesize("Hello")


def test_sentences_cover_english_and_splits_are_disjoint():
    splits = {name: set(sentences.sentences(name)) for name in ("train", "validation", "test", "judge")}
    assert sum(map(len, splits.values())) >= 200
    assert not splits["train"] & splits["test"] and not splits["train"] & splits["validation"]
    assert not splits["validation"] & splits["test"]
    sounds = set()
    for text in sentences.sentences("test") + sentences.sentences("train")[:60]:
        for phoneme, _, _ in speech.synthesize(text)[2]:
            sounds.add(visemes.class_of(phoneme))
    assert sounds == set(range(28))  # every class but the spare one
    with pytest.raises(ValueError, match="split must be"):
        sentences.sentences("dev")


def test_phoneme_classes():
    assert len(visemes.PHONEME_CLASSES) == 29
    assert visemes.class_of("_") == visemes.class_of("") == 0
    assert visemes.class_of("p") == visemes.class_of("b") != visemes.class_of("m")
    assert visemes.atoms("ˈaɪ") == ("a", "ɪ") and visemes.atoms("tʃ") == ("tʃ",) and visemes.atoms("n̩") == ("n",)
    with pytest.raises(ValueError, match="no class for the phoneme"):
        visemes.class_of("ǃ")
    times = np.array([[0, 0.1], [0.1, 0.2], [0.2, 0.4], [0.4, 0.5]])
    classes = visemes.frame_classes(["_", "b", "ˈaɪ", "_"], times, 25)  # at 50 a second
    b, a, i = (visemes.class_of(sound) for sound in "baɪ")
    assert classes.tolist() == [0] * 5 + [b] * 5 + [a] * 6 + [i] * 4 + [0] * 5


@pytest.mark.parametrize("emotion", emotions.EMOTIONS)
def test_lips_close_on_bilabials_and_open_on_vowels(emotion, identities):
    level = 0 if emotion == "neutral" else 3
    rng = np.random.default_rng(7)
    said = spoken(emotion=emotion, level=level, seed=3)
    clip = animate(said, emotion, level, emotions.sample_style(rng), rng)
    instants = visemes.frame_times(said.frames)
    for identity in identities:
        gap = inner_lip_gap(identity, clip.arkit)
        at_rest = inner_lip_gap(identity, np.zeros((1, 52)))[0]
        for phoneme, (start, end) in zip(said.phonemes, said.times, strict=True):
            near = (instants >= start - 0.04) & (instants <= end + 0.04)
            if phoneme in ("p", "b", "m"):
                assert gap[near].min() < at_rest + 0.5, f"{phoneme} at {start:.2f} s is {gap[near].min():.1f} px open"
            elif visemes.atoms(phoneme)[0] in "æɑ" and end - start > 0.08:
                assert gap[near].max() > at_rest + 5, f"{phoneme} at {start:.2f} s stays closed"


def test_the_tongue_rises_for_its_sounds_and_rests_otherwise():
    said = spoken("Ten little lions did nothing. Papa saw a bee.")
    mouth = visemes.mouth_motion(said.phonemes, said.times, said.energy)
    instants = visemes.frame_times(said.frames)
    far = np.full(said.frames, np.inf)  # seconds from a sound that the tip makes
    heard = set()
    for phoneme, (start, end) in zip(said.phonemes, said.times, strict=True):
        sound = visemes.atoms(phoneme)[-1]
        if any(atom in "tdnɾlθðszʃʒɹ" or atom in ("tʃ", "dʒ") for atom in visemes.atoms(phoneme)):
            far = np.minimum(far, np.maximum(np.maximum(start - instants, instants - end), 0))
        if sound in "tdnlθ":
            heard.add(sound)
            assert mouth.tongue[(instants >= start - 0.04) & (instants <= end + 0.04)].max() > 0.6
    assert heard >= set("tdnlθ") and mouth.tongue.max() <= 1
    assert (far > 0.15).sum() > 5 and not mouth.tongue[far > 0.15].any()


def test_silence_is_a_closed_mouth(identities):
    rng = np.random.default_rng(0)
    tone = speech.room_tone(1.5, rng)
    clip = animate(tone, "neutral", 0, emotions.sample_style(rng), rng)
    assert tone.frames == len(clip.arkit) == 38
    for identity in identities:
        assert inner_lip_gap(identity, clip.arkit).max() < inner_lip_gap(identity, np.zeros((1, 52)))[0] + 0.5
    said = spoken()
    mouth = visemes.mouth_motion(said.phonemes, said.times, said.energy).arkit
    instants = visemes.frame_times(said.frames)
    silent = (instants < said.times[0, 1] - 0.13) | (instants > said.times[-1, 0] + 0.13)
    assert silent.any() and np.abs(mouth[silent]).max() < 0.02
    assert mouth[~silent, heads.ARKIT_INDEX["jawOpen"]].max() > 0.3


def test_emotions_can_be_told_apart():
    """Nearest centroid on the mean ARKit weights of clips of other people saying other sentences."""
    rng = np.random.default_rng(11)
    texts = sentences.sentences("validation")
    means = {emotion: [] for emotion in emotions.EMOTIONS}
    for person in range(8):
        style = emotions.sample_style(rng)
        for emotion in emotions.EMOTIONS:
            level = 0 if emotion == "neutral" else 2 + person % 2
            said = spoken(texts[int(rng.integers(len(texts)))], emotion=emotion, level=level, seed=person)
            means[emotion].append(animate(said, emotion, level, style, rng).arkit.mean(0))
    centroids = np.stack([np.mean(means[e][:4], axis=0) for e in emotions.EMOTIONS])
    hits = [np.argmin(np.sum((centroids - x) ** 2, axis=1)) == i
            for i, e in enumerate(emotions.EMOTIONS) for x in means[e][4:]]  # fmt: skip
    assert np.mean(hits) > 0.8


def test_emotion_grows_with_level_and_moves():
    style, energy = emotions.sample_style(np.random.default_rng(0)), np.full(75, 0.5)
    for emotion in set(emotions.EMOTIONS) - {"neutral"}:
        size = [emotions.emotion_motion(emotion, level, style, energy, np.random.default_rng(1)) for level in (1, 2, 3)]
        assert size[0].sum() < size[1].sum() < size[2].sum()
        assert size[2].std(axis=0).max() > 0.01  # never a frozen mask
    with pytest.raises(ValueError, match="no emotion 'bored'"):
        emotions.emotion_motion("bored", 1, style, energy, np.random.default_rng(1))
    with pytest.raises(ValueError, match="level 0"):
        emotions.emotion_motion("happy", 0, style, energy, np.random.default_rng(1))


def test_head_motion_blinks_and_ranges():
    rng = np.random.default_rng(2)
    style = emotions.sample_style(rng)
    clips = [animate(speech.room_tone(8, rng), "neutral", 0, style, rng) for _ in range(20)]
    for angle, spread in (("yaw", 5), ("pitch", 3), ("roll", 2)):
        values = np.concatenate([getattr(clip, angle) for clip in clips])
        assert 0.5 * spread < values.std() < 1.6 * spread
        assert np.abs(np.diff(clips[0].__dict__[angle])).max() < 3  # smooth: no jumps between frames
    blink = np.stack([clip.arkit[:, heads.ARKIT_INDEX["eyeBlinkLeft"]] for clip in clips])
    shut = (blink > 0.95) & np.roll(blink < 0.95, 1, axis=1)
    assert 1.0 < shut.sum() / len(clips) < 4.5  # in 8 seconds
    for clip in clips:
        assert clip.arkit.min() >= 0 and clip.arkit.max() <= 1
        assert np.abs(clip.translation).max() <= 0.06 and not clip.translation[:, 2].any()


def test_a_cut_utterance_stays_consistent():
    said = spoken()
    part = said.cut(30)
    assert part.frames == 30 and len(part.waveform) == 30 * 640 and len(part.energy) == 30
    assert len(part.phonemes) == len(part.times) and part.times[-1, 1] == pytest.approx(1.2)
    assert part.phonemes == said.phonemes[: len(part.phonemes)]
