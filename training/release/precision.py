"""The precision that checkpoints are kept in; whatever it is, they are read as float32."""

import torch
from torch import nn

from eat_hf.errors import UserError


def keep_in(half: bool, network: nn.Module, name: str) -> None:
    """Weights become float16, in half the space, or float32.

    Args:
        name: of the network, for the message.

    Raises:
        UserError: a number is too large; it would be infinite, and nobody could load the network.
    """
    nn.Module.to(network, torch.float16 if half else torch.float32)  # diffusers' own warns of parts kept in float32: []
    for weight, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise UserError(f"{weight} of {name} does not fit into half precision; store it with --half False.")
