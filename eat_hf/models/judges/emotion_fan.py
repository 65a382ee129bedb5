"""Emotion-FAN, the judge of emotions (Meng et al., 2019): the faces of a clip -> which emotion they show."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn

# the order of the public checkpoint, which is not the order of `eat_hf.models.emotion_mapper`
CLASSES = ("happy", "angry", "disgusted", "fear", "sad", "neutral", "surprised", "contempt")
FACES_AT_ONCE = 32  # bounds the memory of a long clip

EvaluationWeights = Literal["alpha", "alpha_beta"]


@dataclass
class EmotionOutput(BaseOutput):
    """Attributes (B clips of N faces, D = 8 * base_width):
    logits: (B, classes) of the whole clip.
    alpha: (B, N) in [0, 1], weight of a face by itself; 0 where masked out.
    beta: (B, N) in [0, 1], weight of a face beside the others of its clip; 0 where masked out.
    features: (B, N, D) of every face; 0 where masked out.
    """

    logits: Tensor
    alpha: Tensor
    beta: Tensor
    features: Tensor


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm around a skip, which a 1x1 convolution adapts where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x), inplace=True)


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)))


class EmotionFAN(ModelMixin, ConfigMixin):
    """A ResNet describes every face, and two attentions decide how much each face counts.

    A face's features f get a weight alpha, the clip's mean m = sum(alpha f) / sum(alpha) follows, and every [f; m] gets
    a second weight beta. In training the emotion is read from sum(alpha beta [f; m]) / sum(alpha beta).

    The defaults are the official network. Tensors are named as in its checkpoint, which also holds a head for clips
    without the second attention (`pred_fc1`); nothing here would use it.

    Args:
        classes: names of the emotions, in the order of the logits.
        base_width: channels of the first stage; the last one has eight times as many.
        layers: blocks of each of the four stages.
        evaluation_weights: what [f; m] is weighted with outside of training. "alpha", as the public code does, leaves
            beta to the divisor alone: sum(alpha [f; m]) / sum(alpha beta). "alpha_beta" is what training does.
        image_size: side of the faces it was trained on, for those who cut them out; any other works, less well.
    """

    @register_to_config
    def __init__(
        self,
        classes: tuple[str, ...] = CLASSES,
        base_width: int = 64,
        layers: tuple[int, ...] = (2, 2, 2, 2),
        evaluation_weights: EvaluationWeights = "alpha",
        image_size: int = 224,
    ):
        super().__init__()
        if evaluation_weights not in ("alpha", "alpha_beta"):
            raise ValueError(f"evaluation_weights must be 'alpha' or 'alpha_beta', not {evaluation_weights!r}.")
        w = base_width
        self.conv1 = nn.Conv2d(3, w, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(w)
        self.layer1 = _stage(w, w, layers[0], 1)
        self.layer2 = _stage(w, 2 * w, layers[1], 2)
        self.layer3 = _stage(2 * w, 4 * w, layers[2], 2)
        self.layer4 = _stage(4 * w, 8 * w, layers[3], 2)
        self.alpha = nn.Sequential(nn.Linear(8 * w, 1), nn.Sigmoid())
        self.beta = nn.Sequential(nn.Linear(16 * w, 1), nn.Sigmoid())
        self.pred_fc2 = nn.Linear(16 * w, len(classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def _describe(self, faces: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(faces)), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))

    def describe(self, faces: Tensor) -> Tensor:
        """Features of single faces: (N, 3, S, S) RGB in [0, 1] -> (N, 8 * base_width)."""
        if self.training:  # batch norm needs to see all faces together
            return self._describe(faces)
        return torch.cat([self._describe(part) for part in faces.split(FACES_AT_ONCE)])

    def forward(self, faces: Tensor, mask: Tensor | None = None) -> EmotionOutput:
        """One emotion a clip.

        Args:
            faces: (B, N, 3, S, S) RGB in [0, 1], without any normalisation; officially dlib's face chips, S = 224.
            mask: (B, N) bool, True where there is a face. The others do not count, in batch norm either. None: all.

        Raises:
            ValueError: a clip without any face.
        """
        clips, count = faces.shape[:2]
        if mask is None:
            mask = torch.ones(clips, count, dtype=torch.bool, device=faces.device)
        if not mask.any(1).all():
            raise ValueError(f"mask leaves clip {int(mask.any(1).int().argmin())} of the batch without any face.")
        described = self.describe(faces[mask])
        features = described.new_zeros(clips, count, described.shape[-1])
        features[mask] = described

        present = mask.unsqueeze(-1).to(features.dtype)
        alpha = self.alpha(F.dropout(features, 0.5, self.training)) * present  # (B, N, 1)
        mean = (alpha * features).sum(1, keepdim=True) / alpha.sum(1, keepdim=True)
        related = torch.cat([features, mean.expand_as(features)], -1)
        beta = self.beta(F.dropout(related, 0.5, self.training)) * present

        both = alpha * beta
        weights = both if self.training or self.config.evaluation_weights == "alpha_beta" else alpha
        clip = (weights * related).sum(1) / both.sum(1)
        return EmotionOutput(
            logits=self.pred_fc2(F.dropout(clip, 0.6, self.training)),
            alpha=alpha.squeeze(-1),
            beta=beta.squeeze(-1),
            features=features,
        )
