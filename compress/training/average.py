"""The moving average of a network's weights and buffers: what is exported where it is asked for.

Its decay is warmed up, min(decay, (1 + n) / (10 + n)) after n steps, as TensorFlow's and timm's is:
so that it never reaches back to weights from before anything was learned.
"""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from compress.models.checkpoint import set_weights


def average_of(model: nn.Module, decay: float) -> AveragedModel:
    """Return an average that begins with the network as it is; `update_parameters` follows it."""

    def after(averaged: Tensor, now: Tensor, steps: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return now
        return averaged.lerp(now, 1 - warmed(decay, int(steps)))

    averaged = AveragedModel(model, avg_fn=after, use_buffers=True)
    averaged.update_parameters(model)  # the first is a copy
    return averaged


def warmed(decay: float, steps: int) -> float:
    """Return the decay after so many steps."""
    return min(decay, (1 + steps) / (10 + steps))


def note_on(decay: float, steps: int) -> str | None:
    """Return what is to be said of a decay that so many steps never reach; None where they do."""
    last = warmed(decay, steps)
    if last >= decay:
        return None
    return (
        f"ema: in {steps} steps the decay is warmed up to {last:.4g} and never reaches {decay:g}; "
        f"the average is over about the last {round(1 / (1 - last))} steps"
    )


def take_over(model: nn.Module, averaged: AveragedModel) -> None:
    """Give a network the average's weights and buffers."""
    set_weights(model, averaged.module.state_dict())
