"""Decides how a network's images and weights lie in memory: the one place that does."""

import copy

import torch
from torch import Tensor, nn

from compress.runtimes.outputs import in_order


def place(
    model: nn.Module, device: torch.device, inputs: Tensor, trains: bool = False
) -> torch.memory_format:
    """Move the model to the device and return the layout in which it takes its inputs.

    Channels last is faster, but `x.view(x.size(0), -1)` behind a convolution (as in PyTorch's own
    tutorial) does not take it: one inference with two of `inputs` decides, and one training step
    where it `trains`.
    """
    model.to(device)
    if inputs.ndim != 4:
        return torch.contiguous_format
    layout = torch.channels_last
    if not _runs(model, inputs[:2].to(device), layout, trains):
        layout = torch.contiguous_format
    model.to(memory_format=layout)  # type: ignore[call-overload]
    return layout


def laid_out(inputs: Tensor, layout: torch.memory_format) -> Tensor:
    """Return the inputs in a layout; what is no map (features) stays as it is."""
    return inputs.contiguous(memory_format=layout) if inputs.ndim == 4 else inputs


def _runs(model: nn.Module, inputs: Tensor, layout: torch.memory_format, trains: bool) -> bool:
    # A copy: batch norms take notice of what they see.
    trial = copy.deepcopy(model).to(memory_format=layout)  # type: ignore[call-overload]
    inputs = inputs.detach().clone().contiguous(memory_format=layout)
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    try:
        with torch.inference_mode(False), torch.random.fork_rng(devices=devices):
            if trains:
                with torch.enable_grad():
                    given = in_order(trial.train()(inputs))
                    torch.stack([x.float().sum() for x in given]).sum().backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                trial.eval()(inputs)
    except RuntimeError as error:
        if "view" in str(error):
            return False
        raise
    return True
