"""Several processes train one network, as `torchrun` starts them: each takes a share of a batch.

The batch, and so the schedule, is that of one process; gradients are averaged. What one process
would do alone (measure, write checkpoints) the first one does.
"""

import atexit
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from compress.training.batches import Batch
from compress.utils.errors import UserError

T = TypeVar("T")
PATIENCE = timedelta(days=7)  # that the others wait while the first one measures


@dataclass(frozen=True)
class Processes:
    """Those that train together; alone, nothing is shared and nobody is told."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def told(self, said: T) -> T:
        """Return what the first one says; all wait for each other."""
        if self.size == 1:
            return said
        box = [said]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def share(self, batch: Batch) -> Batch:
        """Return this process's images of a batch.

        Raises:
            UserError: they cannot be shared out evenly: the joint loss would be another.
        """
        if self.size == 1:
            return batch
        if len(batch.indices) % self.size:
            raise UserError(
                f"A batch of {len(batch.indices)} images cannot be shared out among {self.size} "
                f"processes: give a batch_size that {self.size} divides."
            )
        own = slice(self.rank, None, self.size)
        return replace(
            batch,
            inputs=batch.inputs[own],
            targets=batch.targets[own],
            indices=batch.indices[own],
            view_numbers=batch.view_numbers[own],
            views=batch.views[own],
        )

    def joined(self, network: nn.Module) -> nn.Module:
        """Return a network whose gradients are those of all shares."""
        if self.size == 1:
            return network
        # Heads that only training has, and the loss does not ask for, get no gradient.
        return DistributedDataParallel(network, find_unused_parameters=True)

    def average_gradients(self, learned: nn.Module | None) -> None:
        """Average the gradients of what learns beside the network."""
        if self.size > 1 and learned is not None:
            for parameter in learned.parameters():
                if parameter.grad is not None:
                    dist.all_reduce(parameter.grad)
                    parameter.grad /= self.size

    def mean(self, value: float, device: torch.device) -> float:
        """Return the mean of a number over all."""
        if self.size == 1:
            return value
        joint = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(joint)
        return float(joint) / self.size

    def join_norms(self, model: nn.Module, device: torch.device) -> None:
        """Have batch norms take their statistics of the joint batch, where CUDA can do that."""
        if self.size > 1 and device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]

    def refuse_norms(
        self, model: nn.Module, device: torch.device, still: Sequence[nn.Module]
    ) -> None:
        """Refuse batch norms that learn on CPUs.

        Args:
            still: modules that stay as they are.

        Raises:
            UserError: says why.
        """
        if self.size == 1 or device.type == "cuda":
            return
        frozen = {id(x) for module in still for x in module.modules()}
        learning = [
            name
            for name, x in model.named_modules()
            if isinstance(x, _BatchNorm) and id(x) not in frozen
        ]
        if learning:
            raise UserError(
                f"{learning[0]} is a batch norm: its statistics are of the whole batch, and "
                "between processes torch joins them on CUDA alone. Train with one process, on "
                "GPUs, or freeze the norms."
            )


def processes() -> Processes:
    """Return those that this one trains with: what torchrun's environment says."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    return _joined(int(os.environ["RANK"]), size) if size > 1 else Processes()


@cache
def _joined(rank: int, size: int) -> Processes:
    if not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=PATIENCE)
        # Else its threads may still run when the interpreter ends, which aborts the process.
        atexit.register(dist.destroy_process_group)
    return Processes(rank, size)
