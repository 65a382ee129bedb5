"""The training scripts' own parts: exact labels under augmentation, losses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_renderers import DETAIL, KEYPOINTS, clips

from eat_hf import DetailRenderer
from eat_hf.keypoints import compose_keypoints, rotation_from_degrees
from training.data.augment import degrees_of, transform_similarity
from training.data.motion import MotionClip, MotionData
from training.losses.pictures import feature_weight, gradient_l1
from training.stage_1a_renderer import RendererOptions, RendererTask
from training.stage_2_emotion import CONTEMPT, MOUTH_CORNERS, by_emotion, contempt_side


def posed_batch(count=3, keypoints=6):
    generator = torch.Generator().manual_seed(0)
    labels = {
        "canonical": 0.3 * torch.randn(count, keypoints, 3, generator=generator),
        "expression": 0.05 * torch.randn(count, keypoints, 3, generator=generator),
        "translation": 0.1 * torch.randn(count, 3, generator=generator),
    }
    labels |= {name: 10 * torch.randn(count, generator=generator) for name in ("yaw", "pitch", "roll")}
    labels["keypoints"] = recompose(labels)
    return labels


def recompose(labels):
    rotation = rotation_from_degrees(labels["yaw"], labels["pitch"], labels["roll"])
    return compose_keypoints(
        labels["canonical"], rotation, labels["translation"], labels["expression"].flatten(1), "head"
    )


def test_degrees_of_undoes_rotation():
    angles = [torch.tensor([20.0, -30.0]), torch.tensor([-10.0, 5.0]), torch.tensor([40.0, 0.0])]
    for found, given in zip(degrees_of(rotation_from_degrees(*angles)), angles, strict=True):
        torch.testing.assert_close(found, given, atol=1e-3, rtol=1e-4)


def test_similarity_keeps_eq_1_true():
    torch.manual_seed(0)
    _, moved = transform_similarity(torch.rand(3, 3, 32, 32), posed_batch())
    torch.testing.assert_close(recompose(moved), moved["keypoints"], atol=1e-4, rtol=1e-4)


def test_similarity_moves_the_picture_with_its_labels():
    torch.manual_seed(0)
    labels = posed_batch(8, 1)
    size = 64
    pictures = torch.zeros(8, 3, size, size)
    labels["keypoints"] = labels["keypoints"].clamp(-0.4, 0.4)
    for picture, point in zip(pictures, labels["keypoints"][:, 0], strict=True):
        x, y = ((point[:2] + 1) * size / 2 - 0.5).round().long()
        picture[:, y - 1 : y + 2, x - 1 : x + 2] = 1
    moved, after = transform_similarity(pictures, labels)
    ys, xs = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    for picture, point in zip(moved[:, 0], after["keypoints"][:, 0], strict=True):
        centre = torch.stack([(picture * xs).sum(), (picture * ys).sum()]) / picture.sum()
        torch.testing.assert_close((2 * centre + 1) / size - 1, point[:2], atol=0.04, rtol=0)


def test_losses_know_better_from_worse():
    target = torch.rand(1, 3, 16, 16)
    assert gradient_l1(target, target) == 0
    assert gradient_l1(target + 0.3, target) < 1e-5 < gradient_l1(torch.rand(1, 3, 16, 16), target)
    weight = feature_weight(torch.tensor([[[0.0, 0.0, 0.0]]]), 32)
    assert weight.max() > 5 and weight[0, 0, 0, 0] == pytest.approx(1)


@pytest.mark.parametrize("part", ["motion", "drawing", "eyes"])
def test_the_renderer_learns_one_part_at_a_time(part):
    torch.manual_seed(0)
    lips = [5, 6, 7, 8]
    model = DetailRenderer(**DETAIL, eyes=tuple(range(10))).train()
    task = RendererTask(model, RendererOptions("", part=part), [f"lip_{n}" for n in range(KEYPOINTS)])
    pictures, source, driving, _ = clips(2, 1, 256)
    driving[:, 0, lips, :2] = torch.tensor([[-0.3, 0.0], [0.0, -0.2], [0.3, 0.0], [0.0, 0.2]])
    points = torch.stack([source, driving[:, 0]], 1)
    pairs = {
        "pictures": torch.stack([pictures, pictures.flip(0)], 1),
        "keypoints": points,
        "landmarks": torch.rand(2, 2, 68, 3) - 0.5,
        "teeth": 0.2 * torch.rand(2, 4 * (DETAIL["teeth"] + 1), 3),
    }
    task.train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    losses = task(task.augment(pairs))
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    eyes = {"eyes", "eyes_gradient", "eyes_kept"}
    expected = {"motion": {"warp", "flow"}, "drawing": {"mouth", "mouth_gradient"} | eyes, "eyes": eyes}
    assert losses.keys() == expected[part]
    sum(losses.values()).backward()
    learning = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    mouth = {"stem", "downs", "to_volume", "flatten", "mouth_decoder"}
    networks = {"motion": {"dense_motion"}, "drawing": mouth | {"eye_decoder"}, "eyes": {"eye_decoder"}}
    assert learning == networks[part]
    normed = {name.split(".")[0] for name, buffer in model.named_buffers() if not torch.equal(buffer, before[name])}
    assert normed <= networks[part]  # batch norms of what is only run stay as they are


def clip_of(emotion, left, right):
    """A clip whose mean expression moves the corners of the mouth so far down."""
    expression = torch.zeros(4, 6)
    expression[:, 1], expression[:, 4] = left, right
    expression[::2] += 0.01
    empty = torch.zeros(4, 0)
    return MotionClip(empty, empty, empty, empty, empty, expression, 1.0, emotion, 3, 0)


@pytest.mark.parametrize("names", [MOUTH_CORNERS, ("a", "b")])
def test_contempt_is_learnt_from_the_commoner_side(names):
    data = MotionData.__new__(MotionData)
    data.keypoint_names = list(names)
    corners = [(-0.1, 0.0), (0.0, -0.1), (0.02, -0.1), (0.0, -0.2)]
    data.clips = [clip_of(emotion, *moved) for emotion in (CONTEMPT, CONTEMPT + 1) for moved in corners]
    pools = by_emotion(data, 1, contempt_side(data, 1))
    assert pools[CONTEMPT] == ([1, 2, 3] if names == MOUTH_CORNERS else [0, 1, 2, 3])
    assert pools[CONTEMPT + 1] == [4, 5, 6, 7]
    data.clips = data.clips[:1]  # a held-out person who shows it on the other side is better than nobody
    assert by_emotion(data, 1, 1)[CONTEMPT] == [0]


def test_voices_are_heard_less_certainly():
    data = MotionData.__new__(MotionData)
    clip = clip_of(0, 0.0, 0.0)
    length = len(clip.mel)
    data.maps = {clip.identity: torch.zeros(1)}
    data.clips = [
        replace(
            clip,
            semantic=torch.ones(length, 2, 3),
            pose_images=torch.zeros(length, 4, 4, dtype=torch.uint8),
            angles=torch.zeros(length, 3),
            translation=torch.zeros(length, 3),
        )
    ]

    def heard(least):
        data.least_certain = least
        return data.draw(np.random.default_rng(0), 40, 3, [0])["semantic"].flatten(1)

    assert heard(1.0).max() == 1
    shares = heard(0.4).amax(1)  # one number a clip
    assert 0.4 <= shares.min() < 0.5 and 0.9 < shares.max() <= 1 and data.clips[0].semantic.min() == 1
