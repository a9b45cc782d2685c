"""Rounding to int8 simulated in a float network, so that training gets used to it."""

import contextlib
import io
import warnings

import numpy as np
import torch
from torch import nn

from compress.models.checkpoint import set_weights
from compress.utils.errors import UserError


def _quantizers(weight_bits: int) -> list[dict[str, object]]:
    kinds = {
        "*weight_quantizer": {"num_bits": weight_bits, "axis": 0},
        "*input_quantizer": {"num_bits": 8, "axis": None},
    }
    return [
        {"quantizer_name": "*", "enable": False},
        *(
            {"quantizer_name": name, "parent_class": parent, "cfg": cfg}
            for parent in ("nn.Conv2d", "nn.Linear")
            for name, cfg in kinds.items()
        ),
    ]


def simulate_int8(model: nn.Module, images: np.ndarray, portable: bool = True) -> nn.Module:
    """Puts quantizers before every convolution and linear layer, in place (NVIDIA modelopt).

    Weights get one scale a channel, inputs one a tensor, found on `images` (float32 (n, 3,
    height, width), normalised). Names in the state dict stay; the quantizers' are added.

    Args:
        portable: whether weights have 7 bits, as of `quantize_model`.
    """
    # Takes seconds to import and says much while it does.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            import modelopt.torch.quantization as mtq
        except ImportError as error:
            raise UserError(
                f"quantize.train needs NVIDIA's modelopt ({error}): pip install 'compress[qat]', "
                "or remove train to calibrate only."
            ) from error

        def show(network: nn.Module) -> None:
            # As in training: with the running statistics of a young network ranges can be empty.
            network.train()
            with torch.no_grad():
                network(torch.from_numpy(images))

        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        config = {"quant_cfg": _quantizers(7 if portable else 8), "algorithm": "max"}
        quantized: nn.Module = mtq.quantize(model, config, show)
    set_weights(quantized, buffers, strict=False)  # what the images did to batch norms
    return quantized
