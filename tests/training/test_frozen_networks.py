"""Networks that a training only runs: nothing that is learnt beside them changes what they say."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from training_runs import make_smoke_base

from eat_hf import EATPipeline, SyncExpert
from eat_hf.animation.reenactment import Reenactment
from eat_hf.keypoints import logits_from_degrees
from eat_hf.models.judges.sync_loss import SyncLoss
from training.data import motion
from training.data.clip_pictures import weigh_pictures
from training.losses.emotional_a2et import EmotionalA2ET
from training.losses.latent import LatentTerms
from training.losses.rendered import PictureTerms
from training.stage_2_emotion import EmotionTask

FRAMES, AROUND = 5, 2 * motion.RADIUS + 1


@pytest.fixture
def pipeline(tmp_path):
    return EATPipeline.from_pretrained(make_smoke_base(tmp_path))


def draw_batch(pipeline, count=2):
    keypoints, side = pipeline.keypoint_detector.config.keypoints, pipeline.a2et.config.pose_size
    source = torch.randint(256, (count, 3, 256, 256), dtype=torch.uint8)
    with torch.no_grad():
        prediction_map = pipeline.keypoint_detector(source.float() / 255).prediction_map
    angles = {name: logits_from_degrees(5 * torch.randn(count, FRAMES)) for name in ("yaw", "pitch", "roll")}
    return weigh_pictures(angles | {
        "semantic": torch.randn(count, FRAMES, AROUND, 16, 29),
        "mel": torch.randn(count, FRAMES, AROUND, 80),
        "pose_images": 255 * torch.rand(count, FRAMES, AROUND, side, side),
        "translation": 0.1 * torch.randn(count, FRAMES, 3),
        "prediction_map": prediction_map,
        "expression": 0.1 * torch.randn(count, FRAMES, 3 * keypoints),
        "scale": torch.ones(count),
        "emotion": torch.arange(count),
        "latent": torch.randn(count, 16),
        "has_pictures": torch.ones(count),
        "source": source,
        "real": torch.randint(256, (count, FRAMES, 3, 256, 256), dtype=torch.uint8),
        "canonical": 0.5 * torch.randn(count, keypoints, 3),
        "face_squares": torch.tensor([0.0, 0.0, 0.6]).expand(count, FRAMES, -1),
        "sync_mel": torch.randn(count, FRAMES - 4, 1, 80, 16),
    })  # fmt: skip


def test_stage_2_changes_no_frozen_network(pipeline):
    """Neither their weights nor the statistics of their batch norm, whatever mode they came in."""
    torch.manual_seed(0)
    frozen = {
        "a2et": pipeline.a2et,
        "basis": pipeline.expression_basis,
        "detector": pipeline.keypoint_detector,
        "estimator": pipeline.motion_estimator,
        "repos_net": pipeline.repos_net,
        "expert": SyncExpert(width=1 / 16),
    }
    assert sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for net in frozen.values() for m in net.modules()) > 20
    before = {
        name: {key: value.clone() for key, value in network.state_dict().items()} for name, network in frozen.items()
    }
    for network in frozen.values():
        network.train()  # as networks are made
    networks = Reenactment(pipeline.keypoint_detector, pipeline.motion_estimator, pipeline.repos_net, "head")
    pictures = PictureTerms(networks, None, SyncLoss(frozen["expert"]), face_weight=1.0, sync_weight=1.0)
    model = EmotionalA2ET(pipeline.a2et, pipeline.emotion_mapper, pipeline.edn, pipeline.expression_basis)
    latents = LatentTerms([f"point {n}" for n in range(pipeline.keypoint_detector.config.keypoints)], 1.0)
    task = EmotionTask(model, latents, pictures).train()
    learns = [parameter for parameter in task.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learns, 0.1)
    batch = draw_batch(pipeline)
    for _ in range(2):
        sum(task(batch).values()).backward()
        optimizer.step()
    for name, network in frozen.items():
        changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[name][key])}
        assert all("eam" in key for key in changed) and bool(changed) == (name == "a2et"), name
        assert not network.training


def test_what_clips_are_encoded_with_is_only_run(pipeline, tmp_path, monkeypatch):
    """A detector and a speech encoder that come in training mode give the maps that they give at inference."""
    rng = np.random.default_rng(0)
    portrait = rng.integers(256, size=(256, 256, 3), dtype=np.uint8)
    clip = SimpleNamespace(identity=0, metadata={"portrait": True}, portrait=lambda: portrait)
    corpus = SimpleNamespace(
        folder=tmp_path, info={"keypoint_names": []}, clips=lambda split, kind=None: [] if kind else [clip]
    )
    monkeypatch.setattr(motion, "Corpus", lambda folder: corpus)
    detector, ears = pipeline.keypoint_detector, pipeline.speech_encoder
    with torch.no_grad():
        expected = detector.eval()(torch.from_numpy(portrait).permute(2, 0, 1)[None] / 255).prediction_map[0]
    data = motion.MotionData(str(tmp_path), "train", ears.train(), detector.train(), 16, 1.0)
    torch.testing.assert_close(data.maps[0], expected)
    assert not detector.training and not ears.training
