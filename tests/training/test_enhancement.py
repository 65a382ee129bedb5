"""Stage 1a: its losses by hand, warps and mirrors against pictures, and keypoints as the pipeline computes them."""

import math

import numpy as np
import pytest
import torch
from conftest import build_tiny_pipeline

from eat_hf.animation.clip_plan import drive_keypoints
from eat_hf.animation.head_pose import HeadPose
from eat_hf.animation.reenactment import Reenactment
from eat_hf.animation.rendering import render_frames
from eat_hf.keypoints import rotation_from_degrees
from eat_hf.models.layers import pixel_grid
from training.data.augment import mirror, vary_colour
from training.losses.discriminator import DiscriminatorTask, MultiScaleDiscriminator
from training.losses.equivariance import Warp, equivariance_loss
from training.losses.pictures import discriminator_hinge, face_region, feature_matching, generator_hinge, keypoint_prior
from training.stage_1a_enhancement import EnhancementOptions, EnhancementTask

FAR = torch.tensor([[-0.5, 0.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.5, 0.99]])  # of mean depth 0.33


def test_keypoint_prior_of_hand_made_faces():
    close = FAR.clone()
    close[1] = torch.tensor([-0.3, 0.0, 0.0])  # squared distance 0.04 to the first: either lacks 0.06
    assert keypoint_prior(FAR[None]) == pytest.approx(0, abs=1e-6)
    assert keypoint_prior(close[None]) == pytest.approx(0.12, abs=1e-6)
    assert keypoint_prior(FAR[None] + torch.tensor([0.0, 0.0, 0.2])) == pytest.approx(0.2, abs=1e-6)
    assert keypoint_prior(torch.stack([FAR, close])) == pytest.approx(0.06, abs=1e-6)


def test_hinge_of_hand_made_scores():
    real, fake = [torch.tensor([2.0, 0.0])], [torch.tensor([-2.0, 1.0])]
    assert discriminator_hinge(real, fake) == pytest.approx(0.5 + 1.0)
    assert discriminator_hinge(2 * real, 2 * fake) == pytest.approx(3.0)  # two scales
    assert generator_hinge(fake) == pytest.approx(0.5)


def test_feature_matching_pulls_the_fake_alone():
    real, fake = torch.rand(2, 3, 4, 4, requires_grad=True), torch.rand(2, 3, 4, 4, requires_grad=True)
    assert feature_matching([real, fake], [real, fake]) == 0
    loss = feature_matching([real, real], [fake, 2 * fake])
    torch.testing.assert_close(loss, (real - fake).abs().mean() + (real - 2 * fake).abs().mean())
    loss.backward()
    assert real.grad is None and fake.grad.abs().sum() > 0


def test_equivariance_of_keypoints_that_move_with_the_picture():
    """The detector finds the centre of a blob in each channel; warps are ten times as strong as in training."""
    torch.manual_seed(0)
    size, count = 128, 8
    grid = pixel_grid(size, size, like=FAR)
    centres = torch.tensor([[-0.4, -0.2], [0.35, 0.0], [0.0, 0.4]])
    blobs = torch.exp(-0.5 * (grid - centres[:, None, None]).square().sum(-1) / 0.03**2).expand(count, -1, -1, -1)

    def detect(pictures):
        weight = pictures / pictures.sum((2, 3), keepdim=True)
        return torch.nn.functional.pad((weight[..., None] * grid).sum((2, 3)), (0, 1))

    assert equivariance_loss(detect(blobs), detect(blobs), Warp.draw(count, 0, 0)) < 1e-6
    warp = Warp.draw(count, 0.1, 0.02)
    moved = detect(warp.pictures(blobs))
    assert equivariance_loss(detect(blobs), moved, warp) < 0.006
    assert (moved - detect(blobs)).abs()[..., :2].mean() > 0.05  # what a detector that keeps still would be off


def test_equivariance_is_zero_where_places_agree():
    torch.manual_seed(0)
    warp, moved = Warp.draw(4), torch.rand(4, 5, 3) * 2 - 1
    keypoints = torch.cat([warp.points(moved[..., :2]), torch.rand(4, 5, 1)], -1)
    assert equivariance_loss(keypoints, moved, warp) == 0
    assert equivariance_loss(keypoints + 0.1, moved, warp) == pytest.approx(0.1, abs=1e-6)


def test_thin_plate_of_one_control_point():
    """r^2 ln r around the middle of the picture, as far as it bends."""
    bend = torch.zeros(1, 25, 2)
    bend[0, 12] = torch.tensor([0.5, -0.25])
    moved = Warp(torch.eye(2, 3)[None], bend).points(torch.tensor([[[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]]))
    expected = torch.tensor([[0.6, 0.8], [0.3 + 0.5 * 0.25 * math.log(0.5), 0.4 - 0.25 * 0.25 * math.log(0.5)], [0, 0]])
    torch.testing.assert_close(moved[0], expected)


def test_mirror_keeps_eq_1_true():
    """Rotated points on one side, mirrored, are the mirrored points rotated by the mirrored angles."""
    torch.manual_seed(0)
    angles, points, flip = 20 * torch.randn(4, 3), torch.randn(4, 6, 3), torch.tensor([-1.0, 1, 1])
    pictures = torch.rand(4, 3, 4, 8)
    mirrored, back, landmarks = mirror(pictures, angles, points @ rotation_from_degrees(*angles.unbind(-1)).mT)
    torch.testing.assert_close((flip * points) @ rotation_from_degrees(*back.unbind(-1)).mT, landmarks)
    assert torch.equal(mirrored[..., 0], pictures[..., -1])


def test_colours_vary_a_little():
    torch.manual_seed(0)
    grey = torch.full((8, 3, 4, 4), 0.5)
    varied = vary_colour(grey)
    torch.testing.assert_close(varied, varied[:, :1].expand_as(varied), atol=1e-3, rtol=0)  # hue turns around grey
    assert 0.45 <= varied.min() < 0.5 < varied.max() <= 0.55
    pictures = 0.2 + 0.6 * torch.rand(8, 3, 4, 4)
    torch.testing.assert_close(vary_colour(pictures, 0), pictures, atol=1e-5, rtol=0)
    assert 0.01 < (vary_colour(pictures) - pictures).abs().mean() < 0.2


def test_face_region_is_the_box_of_landmarks_with_a_margin():
    landmarks = torch.rand(1, 68, 3) * 0.5  # x and y in [0, 0.5]
    landmarks[0, 0, :2], landmarks[0, 1, :2] = torch.tensor([0.0, 0.0]), torch.tensor([0.5, 0.5])
    landmarks[..., 2] = torch.nan  # as of real clips
    region = face_region(landmarks, 40)  # pixels of 0.05: the box is 0 to 0.5, with the margin -0.05 to 0.55
    assert region.shape == (1, 1, 40, 40)
    inside = torch.zeros(40, 40)
    inside[19:31, 19:31] = 1
    assert torch.equal(region[0, 0], inside)


def test_discriminator_looks_at_every_scale_and_is_held_back():
    torch.manual_seed(0)
    network = MultiScaleDiscriminator((4, 8), (1, 2))
    judgement = network(torch.rand(2, 3, 64, 64))
    assert [tuple(scores.shape) for scores in judgement.scores] == [(2, 1, 13, 13), (2, 1, 5, 5)]
    assert [maps.shape[1:] for maps in judgement.features] == [(4, 32, 32), (8, 16, 16), (4, 16, 16), (8, 8, 8)]
    for convolution in network.discriminators[0].convolutions:
        norm = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=0.05)


def test_discriminator_learns_to_tell():
    torch.manual_seed(0)
    task = DiscriminatorTask(MultiScaleDiscriminator((8, 16), (1, 2)))
    optimizer = torch.optim.Adam(task.parameters(), 2e-3, (0.5, 0.999))
    batch = {"real": torch.rand(8, 3, 32, 32), "fake": torch.rand(8, 3, 1, 1).expand(-1, -1, 32, 32)}
    losses = []
    for _ in range(30):
        loss = task(batch)["discriminator"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 3 and losses[-1] < 0.5


@pytest.fixture(params=["canonical", "posed"])
def pipeline(request):
    frame = {"canonical": "camera", "posed": "head"}[request.param]
    return build_tiny_pipeline(keypoint_space=request.param, expression_frame=frame, driving_centring="none")


def pictures(count=2):
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 255, (count, 3, 8, 8), dtype=np.uint8)).float()
    return torch.nn.functional.interpolate(coarse, size=256, mode="bilinear").round() / 255


def reenactment(pipeline):
    networks = pipeline.keypoint_detector, pipeline.motion_estimator, pipeline.repos_net
    return Reenactment(*networks, pipeline.expression_basis.config.expression_frame)


@torch.no_grad()
def test_keypoints_and_frames_are_the_pipelines(pipeline):
    source, driving = pictures()
    portraits = [
        pipeline.prepare_portrait(picture.mul(255).round().byte().permute(1, 2, 0).numpy(), align=False)
        for picture in (source, driving)
    ]
    pose = HeadPose(*(getattr(portraits[1].motion, name) for name in ("yaw", "pitch", "roll", "translation")))
    expected = drive_keypoints(pipeline.expression_basis, portraits[0], pose, portraits[1].motion.expression)
    frames = next(render_frames(pipeline.repos_net, portraits[0], expected, None))[0]

    networks = reenactment(pipeline)
    found, canonical, keypoints, motion = networks(source[None], driving[None])
    torch.testing.assert_close(canonical, portraits[0].canonical, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(keypoints, expected[0], atol=1e-5, rtol=1e-4)
    assert motion.angles.shape == (2, 3)
    assert np.abs(found[0].permute(1, 2, 0).mul(255).numpy() - frames).max() <= 1
    # what equivariance compares keypoints with, for a warp that changes nothing
    seen = networks.keypoints_of_moved(driving[None], canonical)
    same = keypoints if pipeline.keypoint_detector.config.keypoint_space == "canonical" else portraits[1].keypoints
    torch.testing.assert_close(seen, same, atol=1e-5, rtol=1e-4)


def test_pictures_are_judged_by_their_faces(pipeline):
    torch.manual_seed(0)
    discriminator = MultiScaleDiscriminator((4, 8))
    source, driving = pictures().split(1)
    warp = Warp.draw(1)
    face = torch.zeros(1, 1, 256, 256)
    face[..., 100:200, 80:180] = 1
    batch = {"source": source, "driving": driving, "warped": warp.pictures(driving), "face": face,
             "angles": torch.zeros(1, 2, 3), **warp.batch()}  # fmt: skip

    def run(**options):
        return EnhancementTask(
            reenactment(pipeline), discriminator, None, EnhancementOptions("out", **options)
        )(batch)  # fmt: skip

    losses, pair = run(deformation_weight=1.0)
    frames = reenactment(pipeline)(source, driving)[0]
    torch.testing.assert_close(pair["fake"], torch.where(face.bool(), frames, driving), atol=1e-5, rtol=0)
    assert torch.equal(pair["real"], driving) and not pair["fake"].requires_grad
    assert all(loss.isfinite() for loss in losses.values()) and losses["deformation"] > 0
    # every network learns from this, the discriminator by its own task alone
    sum(losses.values()).backward()
    for network in (pipeline.keypoint_detector, pipeline.motion_estimator, pipeline.repos_net.dense_motion):
        gradients = [p.grad.abs().max() for p in network.parameters() if p.grad is not None]
        assert max(gradients) > 0 and all(gradient.isfinite() for gradient in gradients)
    task = EnhancementTask(reenactment(pipeline), discriminator, None, EnhancementOptions("out"))
    assert not {id(p) for p in task.parameters()} & {id(p) for p in discriminator.parameters()}

    losses, pair = run(background_weight=0.25)
    expected = torch.where(face.bool(), frames, driving + 0.25 * (frames - driving))
    torch.testing.assert_close(pair["fake"], expected.detach(), atol=1e-5, rtol=0)
    assert losses["deformation"] == 0
