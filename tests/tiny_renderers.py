"""Renderers of a few channels: their settings, and clips for them."""

import torch

KEYPOINTS = 12
SMALL = dict(
    keypoints=KEYPOINTS,
    volume_channels=4,
    volume_depth=2,
    guidance=6,
    hourglass_channels=(4, 8),
    feature_channels=8,
)
PLAIN = SMALL | dict(
    encoder_channels=(4, 8, 8),
    volume_blocks=1,
    compress_channels=2,
    up_channels=(8, 4),
    decoder_channels=8,
    decoder_blocks=1,
    spade_hidden=4,
)
DETAIL = SMALL | dict(
    encoder_channels=(4, 8),
    volume_blocks=0,
    rigid_keypoints=(0, 1, 2, 3, 4),
    inner_mouth=(5, 6, 7, 8),
    teeth=4,
    mouth_channels=(4, 4, 4),
    mouth_details=2,
    eye_channels=4,
)


def clips(count=2, frames=2, size=64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.rand(count, 3, size, size, generator=generator)
    source = torch.rand(count, KEYPOINTS, 3, generator=generator) - 0.5
    driving = source[:, None] + 0.1 * torch.randn(count, frames, KEYPOINTS, 3, generator=generator)
    return pictures, source, driving, torch.randn(count, 6, generator=generator)


EYES = tuple(range(10))


def face(openness=0.3, gaze=0.0):
    """Keypoints (1, 10, 3) of two eyes 0.3 wide."""
    eyes = []
    for x in (-0.3, 0.3):
        side = 1 if x > 0 else -1
        eyes.append([(x + 0.15 * side, 0.0), (x - 0.15 * side, 0.0), (x, -0.15 * openness), (x, 0.15 * openness),
                     (x + 0.3 * gaze, 0.0)])  # fmt: skip
    points = torch.tensor(eyes).transpose(0, 1).reshape(1, 10, 2)
    return torch.cat([points, torch.zeros(1, 10, 1)], -1)
