"""The judges that ship with the project, on clips nobody trained on: do their verdicts mean what they say?"""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="espeak-ng comes with `pip install espeakng-loader`")

from eat_hf import EmotionFAN, SyncNet  # noqa: E402
from eat_hf.evaluation.judges.networks import bundled_judge, load_judge  # noqa: E402
from eat_hf.evaluation.scoring import hear, judge_emotion, judge_synchrony  # noqa: E402
from eat_hf.evaluation.tracks import track_faces, tracked_crops  # noqa: E402
from training.corpus.build import Plan, build_corpus  # noqa: E402
from training.data.dataset import Corpus  # noqa: E402

FRAME = 640  # samples


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Somebody who says something, angrily; seeds of neither the checkpoint's corpus nor the judges'."""
    folder: Path = tmp_path_factory.mktemp("corpus")
    plan = Plan(folder, identities=1, speech_clips=1, latent_clips=0, seed=11, frames_per_clip=60, range_frames=0)
    build_corpus(plan, progress=False)
    return Corpus(folder).clips()[0]


def test_syncnet_finds_the_shift_of_the_sound(clip):
    judge = load_judge(SyncNet, bundled_judge("syncnet"))
    frames, sound = clip.frames(), clip.waveform()
    crops = tracked_crops(frames, track_faces(frames).filled(), judge.config.image_size)
    in_sync = judge_synchrony(judge, crops, hear(judge, sound, len(crops)))
    assert abs(in_sync.offset) <= 1
    shifted = np.concatenate([np.zeros(5 * FRAME, np.float32), sound[: -5 * FRAME]])
    later = judge_synchrony(judge, crops, hear(judge, shifted, len(crops)))
    assert later.offset == pytest.approx(in_sync.offset - 5, abs=1)  # the lips now come before their sound
    backwards = judge_synchrony(judge, crops, hear(judge, sound[::-1].copy(), len(crops)))
    best = in_sync.curve.argmin()
    assert backwards.curve[best] > in_sync.curve[best] + 0.5


def test_the_emotion_judge_sees_a_strong_emotion(clip):
    judge = load_judge(EmotionFAN, bundled_judge("emotion_fan"))
    frames = clip.frames()
    assert clip.emotion != "neutral"
    assert judge_emotion(judge, frames, track_faces(frames)) == clip.emotion
