"""Losses on pictures: the sync loss by hand and by descent, rendering as the pipeline does it, means over a batch."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import KEYPOINTS, WIDTH, build_tiny_pipeline

from eat_hf import SyncExpert
from eat_hf.animation.clip_plan import drive_keypoints
from eat_hf.animation.head_pose import HeadPose
from eat_hf.animation.reenactment import Reenactment
from eat_hf.animation.rendering import render_frames
from eat_hf.errors import UserError
from eat_hf.evaluation.tracks import FaceTrack, smooth_squares
from eat_hf.keypoints import hull_volume, logits_from_degrees
from eat_hf.models.judges.sync_loss import SyncLoss, crop_faces, expert_boxes, lower_half
from eat_hf.models.judges.vgg import VGGFeatures
from training.data.clip_pictures import weigh_pictures
from training.data.faces import expert_crops
from training.loop.command_line import Recipe
from training.losses.perceptual import PerceptualLoss
from training.losses.rendered import PictureOptions, PictureTerms, load_picture_terms
from training.stage_2_emotion import choose_share


def small_expert():
    torch.manual_seed(1)
    return SyncExpert(width=1 / 16)


def test_faces_are_cut_as_for_the_expert(portrait):
    picture = cv2.resize(portrait[:330, 60:390], (256, 256), interpolation=cv2.INTER_AREA)
    frames = np.stack([cv2.GaussianBlur(picture, None, 3)] * 3)  # boxes of whole pixels there, exact ones here
    rng = np.random.default_rng(0)
    landmarks = rng.uniform((40.0, 60.0), (200.0, 230.0), (3, 68, 2))
    expected = expert_crops(frames, FaceTrack(np.zeros((3, 4)), landmarks))
    squares = torch.from_numpy(smooth_squares(expert_boxes((landmarks + 0.5) / 128 - 1)))
    found = crop_faces(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255, squares)
    assert found.shape == (3, 3, 96, 96)
    error = np.abs(255 * found.permute(0, 2, 3, 1).numpy() - expected.astype(float))
    shifted = np.abs(expected[:, :, 3:].astype(float) - expected[:, :, :-3])
    assert error.mean() < 0.3 * shifted.mean()


def test_sync_loss_is_minus_the_logarithm_of_the_cosine():
    expert = small_expert()
    loss = SyncLoss(expert).train()
    faces, mel = torch.rand(2, 6, 3, 96, 96), torch.randn(2, 2, 1, 80, 16)
    expert.eval()
    expected = []
    for sample in range(2):
        for start in range(2):
            out = expert(mel[sample, start][None], lower_half(faces[sample, start : start + 5][None]))
            expected.append(-torch.log((out.audio * out.face).sum()))
    torch.testing.assert_close(loss(faces, mel), torch.stack(expected).mean())
    assert not any(p.requires_grad for p in loss.parameters())


def test_sync_loss_pulls_the_lower_half_of_the_face():
    loss = SyncLoss(small_expert())
    frames = torch.rand(5, 3, 64, 64, requires_grad=True)
    squares = torch.tensor([[0.0, 0.0, 0.5]]).expand(5, -1)  # the middle of the picture
    mel = torch.randn(1, 1, 1, 80, 16)
    values = []
    for _ in range(4):
        value = loss(crop_faces(frames, squares)[None], mel)
        (gradient,) = torch.autograd.grad(value, frames)
        frames = (frames - 0.05 * gradient / gradient.abs().max()).requires_grad_()
        values.append(value.item())
    assert values[-1] < values[0]
    touched = gradient.abs().sum((0, 1)) > 0
    assert touched[31:49, 15:49].any() and touched[31:49, 15:49].sum() == touched.sum()


def test_sync_loss_prefers_what_the_expert_learnt_to_belong_together():
    expert = small_expert()
    torch.manual_seed(1)
    faces, mel = torch.rand(4, 5, 3, 1, 1).expand(-1, -1, -1, 96, 96), torch.randn(4, 1, 80, 1).expand(-1, -1, -1, 16)
    optimizer = torch.optim.Adam(expert.parameters(), 2e-3)
    for step in range(40):
        shift = step % 4
        out = expert(mel.roll(shift, 0), lower_half(faces))
        cosine = (out.audio * out.face).sum(1).clamp(1e-6, 1 - 1e-6)
        loss = F.binary_cross_entropy(
            cosine, torch.full((4,), float(shift == 0)), torch.tensor(3.0 if shift == 0 else 1)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    sync = SyncLoss(expert)
    fitting = [sync(faces[n : n + 1], mel[n : n + 1, None]) for n in range(4)]
    wrong = [sync(faces[n : n + 1], mel.roll(1, 0)[n : n + 1, None]) for n in range(4)]
    assert torch.stack(fitting).mean() < torch.stack(wrong).mean()


def build_pipeline(keypoint_space="posed"):
    frame = {"canonical": "camera", "posed": "head"}[keypoint_space]
    return build_tiny_pipeline(keypoint_space=keypoint_space, expression_frame=frame, driving_centring="none")


@pytest.fixture
def pipeline():
    return build_pipeline()


def picture_terms(pipeline, **terms):
    components = pipeline.keypoint_detector, pipeline.motion_estimator, pipeline.repos_net
    networks = Reenactment(*components, pipeline.expression_basis.config.expression_frame)
    return PictureTerms(networks, **terms)


def draw_batch(count, frames=5):
    """Any faces and any motion."""
    torch.manual_seed(0)
    angles = [logits_from_degrees(10 * torch.randn(count, frames)) for _ in range(3)]
    canonical = torch.randn(count, KEYPOINTS, 3) * 0.4
    return {
        **dict(zip(("yaw", "pitch", "roll"), angles, strict=True)),
        "translation": 0.1 * torch.randn(count, frames, 3),
        "canonical": canonical,
        "scale": hull_volume(canonical),
        "has_pictures": torch.ones(count),
        "source": (255 * torch.rand(count, 3, 16, 16)).byte().repeat_interleave(16, 2).repeat_interleave(16, 3),
        "real": (255 * torch.rand(count, frames, 3, 256, 256)).byte(),
        "face_squares": torch.tensor([0.0, 0.1, 0.5]).expand(count, frames, 3),
        "sync_mel": torch.randn(count, max(0, frames - 4), 1, 80, 16),
    }


@pytest.mark.parametrize("keypoint_space", ["canonical", "posed"])
@torch.no_grad()
def test_frames_are_the_pipelines(keypoint_space):
    pipeline = build_pipeline(keypoint_space)
    batch = draw_batch(1)
    portrait = pipeline.prepare_portrait(batch["source"][0].permute(1, 2, 0).numpy(), align=False)
    batch |= {"canonical": portrait.canonical, "scale": hull_volume(portrait.canonical)}
    expression, guidance = 0.3 * torch.randn(1, 5, 3 * KEYPOINTS), torch.randn(1, WIDTH)
    torch.nn.init.normal_(pipeline.repos_net.volume_eam.expand.weight)  # an EAM that does something,
    torch.nn.init.constant_(pipeline.repos_net.volume_eam.reduce.bias, 5.0)  # for its one hidden unit is above zero
    found = picture_terms(pipeline).render(batch, expression, guidance)

    degrees = [3 * (batch[name].softmax(-1) @ torch.arange(66.0)) - 99 for name in ("yaw", "pitch", "roll")]
    pose = HeadPose(*(angle[0] for angle in degrees), batch["translation"][0])
    driving = drive_keypoints(pipeline.expression_basis, portrait, pose, expression[0] * batch["scale"])
    expected = np.concatenate(list(render_frames(pipeline.repos_net, portrait, driving, guidance)))
    assert np.abs(255 * found[0].permute(0, 2, 3, 1).numpy() - expected).max() <= 1
    assert not np.array_equal(
        expected, np.concatenate(list(render_frames(pipeline.repos_net, portrait, driving, None)))
    )


def test_terms_are_means_over_the_samples_with_pictures(pipeline):
    terms = picture_terms(pipeline, sync=SyncLoss(small_expert()), face_weight=2.0, sync_weight=3.0).train()
    assert not any(module.training for module in terms.modules())
    batch = draw_batch(4)
    expression = (0.3 * torch.randn(4, 5, 3 * KEYPOINTS)).requires_grad_()

    def take(rows, **changed):
        return {name: value[rows] for name, value in (weigh_pictures(batch | changed)).items()}

    partly = torch.tensor([1.0, 0.0, 1.0, 1.0])
    whole = terms(take(slice(0, 4), has_pictures=partly), expression)
    with torch.no_grad():
        alone = [
            terms(weigh_pictures({k: v[n : n + 1] for k, v in batch.items()}), expression[n : n + 1]) for n in (0, 2, 3)
        ]
        shares = [terms(take(part, has_pictures=partly), expression[part]) for part in (slice(0, 2), slice(2, 4))]
        none = terms(take(slice(0, 1), has_pictures=0 * partly), expression[:1])
    assert set(whole) == {"face", "sync"} == set(none)
    for name, value in whole.items():
        expected = sum(each[name] for each in alone) / 3
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close((shares[0][name] + shares[1][name]) / 2, expected, rtol=1e-4, atol=1e-5)
        assert none[name] == 0
        (gradient,) = torch.autograd.grad(value, expression, retain_graph=True)
        assert gradient[[0, 2, 3]].any() and not gradient[1].any()


def test_perceptual_term_compares_whole_frames(pipeline, tmp_path):
    torch.manual_seed(0)
    VGGFeatures(19).save_pretrained(tmp_path)
    terms = picture_terms(pipeline, perceptual=PerceptualLoss(f"vgg19={tmp_path}", 10.0, scales=(8,)))
    batch = weigh_pictures(draw_batch(1, 1))
    expression = torch.zeros(1, 1, 3 * KEYPOINTS, requires_grad=True)
    losses = terms(batch, expression)
    assert set(losses) == {"perceptual"} and losses["perceptual"] > 0
    losses["perceptual"].backward()
    assert expression.grad.abs().max() > 0
    with torch.no_grad():
        batch["real"] = (255 * terms.render(batch, expression)).round().byte()
        assert terms(batch, expression)["perceptual"] < 0.05 * losses["perceptual"]


def test_options_of_pictures():
    assert not PictureOptions("out").compare_pictures()
    assert not PictureOptions("out", perceptual_weight=1.0, perceptual_backbone="none").compare_pictures()
    assert PictureOptions("out", face_weight=1.0).compare_pictures()


@pytest.mark.parametrize("expert, frames, message", [("", 5, "needs --sync_expert"), (None, 4, "at least that, not 4")])
def test_mistakes_about_the_sync_expert(pipeline, tmp_path, expert, frames, message):
    for run, component in (
        ("detector", "keypoint_detector"), ("estimator", "motion_estimator"), ("renderer", "repos_net"),
    ):  # fmt: skip
        getattr(pipeline, component).save_pretrained(tmp_path / run / component)
    if expert is None:
        small_expert().save_pretrained(tmp_path / "expert")
        expert = str(tmp_path / "expert")
    with pytest.raises(UserError, match=message):
        load_picture_terms(
            PictureOptions("out", sync_weight=1.0, sync_expert=expert), tmp_path, Recipe.load("smoke"), frames
        )


def test_shares_of_the_data_keep_every_emotion_and_grow():
    pools = [list(range(100 * emotion, 100 * emotion + count)) for emotion, count in enumerate((1, 7, 40))]
    quarter, half, other = choose_share(pools, 0.25, 0), choose_share(pools, 0.5, 0), choose_share(pools, 0.5, 1)
    assert [len(pool) for pool in quarter] == [1, 2, 10] and [len(pool) for pool in half] == [1, 4, 20]
    assert all(set(a) <= set(b) <= set(c) for a, b, c in zip(quarter, half, pools, strict=True))
    assert half != other and choose_share(pools, 1.0, 0) == pools
    for share in (0.0, 1.5):
        with pytest.raises(UserError, match="data_share"):
            choose_share(pools, share, 0)
