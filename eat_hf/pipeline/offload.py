"""Weights that stay on the CPU until a submodule needs them."""

import torch
from accelerate.hooks import (
    AlignDevicesHook,
    add_hook_to_module,
    attach_align_device_hook,
    remove_hook_from_submodules,
)
from torch import nn


def offload_submodules(module: nn.Module, device: torch.device) -> None:
    """Keep a component's weights on the CPU, and bring those of each submodule to a device while it runs.

    Submodules of the classes that the component's `_no_split_modules` names are brought as a whole, since they read
    weights of their parts. In place of accelerate's `cpu_offload`, whose hooks cannot hand on outputs with names.
    """
    device = torch.device("cpu") if device.type == "cpu" else device  # not "cpu:0", which hooks take for another place
    remove_hook_from_submodules(module)
    weights = {name: tensor.to("cpu") for name, tensor in module.state_dict().items()}
    add_hook_to_module(module, AlignDevicesHook(device))
    whole = getattr(module, "_no_split_modules", None)
    attach_align_device_hook(module, device, True, weights, preload_module_classes=whole)
