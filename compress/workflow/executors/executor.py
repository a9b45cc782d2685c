"""What computes stages: told which, it says which of them failed, and why."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from compress.methods.context import Context
from compress.recipe.schema import Recipe
from compress.results.schema import Machine
from compress.workflow.cache import MEASURED_ON, Stage, Store
from compress.workflow.shared import Shared

if TYPE_CHECKING:
    import torch

MACHINES = {"machine", "cpu_flags", MEASURED_ON}  # settings that tell of a machine
# Kinds of stages that run files whose answers their inputs measured, or take their times.
RUN_FILES = {"doubts", "cascade_further"}
NETWORKS = {"teacher", "prepare", "step"}  # kinds of stages that make a network


def measures(stage: Stage) -> bool:
    """Return whether a stage's outcome is of the machine that computes it."""
    return stage.kind in RUN_FILES or not MACHINES.isdisjoint(stage.settings)


def trains(stage: Stage) -> bool:
    """Return whether a stage may train a network."""
    asked = any(train is not None for train in named(stage.settings, "train"))
    return stage.kind in NETWORKS and asked and not measures(stage)


def named(settings: Any, name: str) -> Iterator[Any]:
    """Yield what settings, and those within, hold under a name, if anything."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key == name and value is not None:
                yield value
            yield from named(value, name)


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
        allowed: tuple[str, ...] = (),
        note: Callable[[str], None] = lambda _: None,
    ) -> Recipe:
        """Return the recipe with `precision: auto` decided for where networks train."""

    def run(
        self,
        stages: Sequence[Stage],
        store: Store,
        context: Context,
        needed: Container[str] = (),
        done: Callable[[Stage], None] = lambda _: None,
    ) -> dict[str, str]:
        """Compute stages, each after its inputs.

        Args:
            stages: each after those of its inputs that are among them; the others are done.
            needed: keys of stages without which nothing can go on.
            done: is told of each that is done, or was.

        Returns:
            Why stages could not be done, by key, for a reason that the user can mend: those that
            failed and those that build on them.

        Raises:
            UserError: a needed stage fails.
            StorageFailed: nothing can be kept, whatever stage it is of.
        """
