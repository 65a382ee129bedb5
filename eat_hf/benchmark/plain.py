"""The plain way to make frames, for comparison: as the authors' scripts do, one at a time, with nothing kept."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..animation.expression import draw_prompts
from ..animation.networks import Module, graft
from ..animation.portrait import Portrait, to_pixel_values
from ..animation.pose_pictures import pose_pictures
from ..inputs.audio import frame_windows
from ..keypoints import logits_from_degrees, pose_picture_rotation
from ..media.recordings import Recording
from ..models.layers import EnlargingConv2d, EnlargingConv3d
from ..pipeline.pipeline_eat import EATPipeline

EMOTION = "happy"


class ConvAfterEnlarging(nn.Module):
    """A convolution that enlarges what it reads, nearest neighbour, before it looks at it: the plain way."""

    def __init__(self, conv: nn.Conv2d | nn.Conv3d):
        super().__init__()
        self.stride, self.padding = conv.stride, conv.padding
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor, enlarge: int = 1) -> Tensor:
        """x (N, C, H, W), or (N, C, D, H, W) of which height and width are enlarged."""
        if enlarge > 1:
            x = F.interpolate(x, scale_factor=(*[1] * (x.dim() - 4), enlarge, enlarge))
        convolve = F.conv3d if x.dim() == 5 else F.conv2d
        return convolve(x, self.weight, self.bias, self.stride, self.padding)


def plain_network(network: Module) -> Module:
    """The same network, weights shared, that convolves enlarged maps as the paper writes it down."""
    kinds = EnlargingConv2d, EnlargingConv3d
    enlarging = {name: module for name, module in network.named_modules() if isinstance(module, kinds)}
    return graft(network, {name: ConvAfterEnlarging(module) for name, module in enlarging.items()})


@torch.no_grad()
def plain_frames(
    pipe: EATPipeline, recording: Recording, portrait: Portrait, driving: Tensor, frames: Sequence[int]
) -> Tensor:
    """Frames (n, 3, 256, 256) of a clip with one emotion, each by itself, with nothing kept from one to the next.

    Args:
        driving: K_d (1, F, K, 3) of the whole clip; A2ET and EDN compute them again, and nothing is made of that.
        frames: numbers of those that are wanted.
    """
    speech, a2et, seen = pipe.encode_audio(recording), pipe.a2et, portrait.motion
    semantic = torch.cat([speech.semantic, speech.semantic[-1:]])[: len(speech.mel)]
    pixel_values = to_pixel_values(torch.from_numpy(portrait.aligned.crop[None]).to(driving.device))
    own = pipe.networks.own
    prompts = draw_prompts(pipe.networks, [own], torch.Generator().manual_seed(0), driving.device)
    prompt = prompts[own.emotions.index(EMOTION), None]
    radius = a2et.config.window // 2
    angles = [logits_from_degrees(angle.expand(2 * radius + 1)) for angle in (seen.yaw, seen.pitch, seen.roll)]
    renderer = plain_network(pipe.repos_net)
    made = []
    for frame in frames:
        pictures = pose_pictures(pose_picture_rotation(*angles), seen.translation.expand(2 * radius + 1, -1))
        shown = a2et(
            frame_windows(semantic, radius, a2et.semantic_padding)[frame, None, None],
            frame_windows(speech.mel, radius, a2et.mel_padding)[frame, None, None],
            pictures[None, None],
            *(angle[None, :1] for angle in angles),
            seen.translation[None],
            portrait.prediction_map,
            prompt,
        )
        pipe.expression_basis(shown.coefficients)
        pipe.edn(shown.face_features, prompt)
        own_keypoints = driving[:, frame : frame + 1]
        made.append(renderer(pixel_values, portrait.keypoints, own_keypoints, prompt[:, 0]).frames[0])
    return torch.cat(made)
