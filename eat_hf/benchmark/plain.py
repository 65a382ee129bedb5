"""The plain way to make frames, for comparison: as the authors' scripts do, one at a time, with nothing kept."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..animation.portrait import Portrait
from ..animation.pose_pictures import pose_pictures
from ..inputs.audio import frame_windows
from ..keypoints import logits_from_degrees, pose_picture_rotation
from ..media.recordings import Recording
from ..models import layers, spade
from ..pipeline.pipeline_eat import EATPipeline

EMOTION = "happy"


@contextmanager
def maps_enlarged_first() -> Iterator[None]:
    """Convolutions of enlarged maps as they are written down, for comparison."""

    def enlarge(conv: nn.Module, small: Tensor, scale: int) -> Tensor:
        return conv(F.interpolate(small, scale_factor=(*[1] * (small.dim() - 4), scale, scale)))

    with mock.patch.object(layers, "conv_of_enlarged", enlarge), mock.patch.object(spade, "conv_of_enlarged", enlarge):
        yield


@torch.no_grad()
def plain_frames(
    pipe: EATPipeline, recording: Recording, seen: Portrait, driving: Tensor, frames: Sequence[int]
) -> Tensor:
    """Frames (n, 3, 256, 256) of a clip with one emotion, each by itself, with nothing kept from one to the next.

    Args:
        driving: K_d (1, F, K, 3) of the whole clip; A2ET and EDN compute them again, and nothing is made of that.
    """
    speech = pipe.encode_audio(recording)
    semantic = torch.cat([speech.semantic, speech.semantic[-1:]])[: len(speech.mel)]
    pixel_values = pipe._pixel_values(seen.crop[None])
    prompts = pipe.draw_prompts(torch.Generator().manual_seed(0))
    prompt = prompts[pipe.emotion_mapper.config.emotions.index(EMOTION), None]
    radius = pipe.a2et.config.window // 2
    angles = [logits_from_degrees(angle.expand(2 * radius + 1)) for angle in (seen.yaw, seen.pitch, seen.roll)]
    made = []
    with maps_enlarged_first():
        for frame in frames:
            pictures = pose_pictures(pose_picture_rotation(*angles), seen.translation.expand(2 * radius + 1, -1))
            shown = pipe.a2et(
                frame_windows(semantic, radius, pipe.a2et.semantic_padding)[frame, None, None],
                frame_windows(speech.mel, radius, pipe.a2et.mel_padding)[frame, None, None],
                pictures[None, None],
                *(angle[None, :1] for angle in angles),
                seen.translation[None],
                seen.prediction_map,
                prompt,
            )
            pipe.expression_basis(shown.coefficients)
            pipe.edn(shown.face_features, prompt)
            own = driving[:, frame : frame + 1]
            made.append(pipe.repos_net(pixel_values, seen.keypoints, own, prompt[:, 0]).frames[0])
    return torch.cat(made)
