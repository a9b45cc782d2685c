"""What computes stages: told which, it says which of them failed, and why."""

from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from compress.methods.context import Context
from compress.recipe.schema import Recipe
from compress.results.schema import Machine
from compress.workflow.cache import Stage, Store
from compress.workflow.shared import Shared

if TYPE_CHECKING:
    import torch


class Executor(Protocol):
    """Computes stages that are not done.

    Attributes:
        machine, threads: of where times are measured: they are part of the stages' keys.
        shared: the store that others share, if one is given.
    """

    @property
    def machine(self) -> Machine: ...
    @property
    def threads(self) -> int: ...
    @property
    def shared(self) -> Shared | None: ...
    def device(self, wanted: str) -> "torch.device":
        """Return what networks train on where the recipe asks for auto, cpu or cuda.

        Raises:
            UserError: there is no such device.
        """

    def decided(
        self,
        recipe: Recipe,
        tables: Path,
        allowed: tuple[str, ...] = (),
        note: Callable[[str], None] = lambda _: None,
    ) -> Recipe:
        """Return the recipe with `precision: auto` decided for where networks train.

        Args:
            tables: the folder that keeps what was timed.
        """

    def run(
        self,
        stages: Sequence[Stage],
        store: Store,
        context: Context,
        needed: Container[str] = (),
    ) -> dict[str, str]:
        """Compute stages, each after its inputs.

        Args:
            stages: each after those of its inputs that are among them; the others are done.
            needed: keys of stages without which nothing can go on.

        Returns:
            Why stages could not be done, by key, for a reason that the user can mend: those that
            failed and those that build on them.

        Raises:
            UserError: a needed stage fails.
        """
