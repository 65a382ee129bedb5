"""Features of VGG (Simonyan and Zisserman, 2015), in which perceptual distances are measured (paper section 3.1)."""

from typing import Literal

from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB in [0, 1]

_STAGES = {16: (2, 2, 3, 3), 19: (2, 2, 4, 4)}  # convolutions before each halving of the size


class VGGFeatures(ModelMixin, ConfigMixin):
    """The first layer of each of the five stages, relu1_1 to relu5_1; nothing behind relu5_1 is kept.

    Tensors are named as in torchvision (`features.N`), with the defaults of its `vgg19`.

    Args:
        depth: 16 or 19, layers of the whole network.
        channels: width of each stage.
    """

    @register_to_config
    def __init__(self, depth: Literal[16, 19] = 19, channels: tuple[int, ...] = (64, 128, 256, 512, 512)):
        super().__init__()
        if depth not in _STAGES:
            raise ValueError(f"depth must be 16 or 19, not {depth}.")
        layers: list[nn.Module] = []
        self.taps = []  # indices of the layers to return
        in_channels = 3
        for width, convolutions in zip(channels, (*_STAGES[depth], 1), strict=True):
            if layers:
                layers.append(nn.MaxPool2d(2))
            self.taps.append(len(layers) + 1)
            for _ in range(convolutions):
                layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU(inplace=True)]
                in_channels = width
        self.features = nn.Sequential(*layers)

    def forward(self, pixel_values: Tensor) -> list[Tensor]:
        """pixel_values (B, 3, H, W) RGB in [0, 1] -> five maps, (B, channels[i], H // 2**i, W // 2**i)."""
        mean, std = (pixel_values.new_tensor(value)[:, None, None] for value in (MEAN, STD))
        x = (pixel_values - mean) / std
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                maps.append(x)
        return maps
