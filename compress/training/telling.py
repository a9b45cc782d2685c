"""Networks that are told in training what they are to say: teacher forcing.

A network that says one thing after another learns each from what it should have said before
(Williams & Zipser 1989, Neural Computation 1:270-280).
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from compress.training.batches import Batch
from compress.utils.errors import UserError


@runtime_checkable
class SeesTargets(Protocol):
    """A network that takes, before it is shown a batch in training, what it is to answer."""

    def see_targets(self, targets: Tensor) -> None:
        """Take what the task tells of the images that come next, see `Task.told`."""
        ...


def tell(model: nn.Module, batch: Batch, told: Callable[[], Tensor]) -> None:
    """Tell a network that sees targets those of a batch; others go without.

    Args:
        told: gives what the objective tells of the batch.

    Raises:
        UserError: the images are mixed: of two at once nothing can be told.
    """
    if not isinstance(model, SeesTargets):
        return
    if batch.mix is not None:
        raise UserError(
            "The network is told what it is to say, and of two images mixed into one that is not "
            "known: remove mixup and cutmix."
        )
    model.see_targets(told())
