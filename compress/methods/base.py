"""What a compression method is: the class that each of them is a subclass of."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from compress.utils.settings import ImageSize, RecipeModel

if TYPE_CHECKING:
    from torch import nn

    from compress.data.input_spec import InputSpec
    from compress.methods.context import Context, StepInputs
    from compress.methods.decided import Decided
    from compress.models.candidate import Candidate
    from compress.results.schema import Deployed
    from compress.training.settings import ViewSettings

S = TypeVar("S", bound=RecipeModel)
TEACHER = "teacher"  # among those that a step learns from: the recipe's own


class Student(NamedTuple):
    """A network of its own that a method trains, instead of the one before it."""

    builder: str
    settings: dict[str, Any]
    image_size: ImageSize | None
    weights: str | None = None  # that it begins with: a file, torchvision:…, or timm


class Method(ABC, Generic[S]):
    """One way to make a network smaller or faster: a step of a candidate's chain.

    A subclass lives in `step.py` of a folder here, or is named by an entry point of the group
    `compress.methods`. It says how it is called in recipes and what may be set, has `apply`, and
    of the other hooks what it has something to say on. What is no hook and has no leading
    underscore is a mistake. Importing it imports no torch, so that a recipe is checked in no time.

    Attributes:
        name: in recipes.
        settings: what a recipe may say, typed.
        version: raised when the method computes something else from the same settings.
        prepared: the settings that `prepare` looks at.
        checked: the settings that `check` looks at; None: all of them.
        measures: whether `apply` proves or times on this machine what it made.
        judges: whether it decides by right answers, so that how near is right is its business.
        runtimes: in which its files run, where not in all; it judges them in the first.
        makes_file: whether what it makes is a file, deployed instead of an export of the network.
        nothing_follows: why no step can come after it; empty where one can.
    """

    name: ClassVar[str]
    settings: type[S]
    version: ClassVar[int] = 1
    prepared: ClassVar[Collection[str]] = ()
    checked: ClassVar[Collection[str] | None] = None
    measures: ClassVar[bool] = False
    judges: ClassVar[bool] = False
    runtimes: ClassVar[tuple["Deployed", ...]] = ()
    makes_file: ClassVar[bool] = False
    nothing_follows: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Refuse what is no hook: a misspelt one would never be asked.

        Raises:
            TypeError: names it, and the nearest hook.
        """
        hooks = [name for name in dir(Method) if not name.startswith("_")] + ["name", "settings"]
        for name in vars(cls):
            if not name.startswith("_") and name not in hooks:
                near = get_close_matches(name, hooks, 1)
                hint = f" Did you mean {near[0]}?" if near else ""
                raise TypeError(f"{cls.__name__}.{name} is no hook of a method.{hint}")

    def check(
        self,
        settings: S,
        before: "Callable[[], nn.Module | None]",
        build: "Callable[[str, dict[str, Any]], nn.Module]",
        spec: "InputSpec",
    ) -> None:
        """Refuse, before anything runs, what the networks alone show to be impossible.

        Args:
            before: makes the network that the step starts from; None where it is not known yet.
            build: makes a network of a builder's name and settings.
            spec: the input of the network before; it names no outputs.

        Raises:
            UserError: what stands in the way.
        """

    def controls(self, settings: S) -> Mapping[str, S]:
        """Return the settings of control rows, by the kind of control.

        The kind is NO_TEACHER or FROM_SCRATCH of `compress.results.schema`, or one of the method's
        own; it is written behind the candidate's name, in brackets.
        """
        return {}

    def student(self, settings: S) -> Student | None:
        """Return the network of its own that it trains, so that the step must come first."""
        return None

    def teachers(self, settings: S) -> Sequence[str]:
        """Return the names of candidates that it learns from; none: from the recipe's teacher."""
        return ()

    def view_settings(self, settings: S) -> "ViewSettings | None":
        """Return the teacher outputs that it wants cached."""
        return None

    def untrained(self, settings: S) -> S:
        """Return settings under which it makes a network of the same shape and trains nothing.

        What it makes can be timed before hours of training.
        """
        return settings

    def in_parts(self, settings: S, epochs: Sequence[int]) -> list[S]:
        """Return the settings of steps that train so many epochs each, one going on from the other.

        The rate stays as it is until it falls in the last one. None where its training cannot be
        continued.
        """
        return []

    def takes_files(self, settings: S) -> bool:
        """Return whether it can start from an ONNX teacher, whose network has no code."""
        return False

    def prepare(self, inputs: "StepInputs", settings: S, context: "Context") -> "Candidate":
        """Return what comes before anything is measured: a trained network, say, and its ranges."""
        raise NotImplementedError

    def decides_by_times(self, settings: S) -> bool:
        """Return whether `decide` measures on this machine, against the teacher's file."""
        return False

    def decide(self, inputs: "StepInputs", settings: S, context: "Context") -> "Decided":
        """Return what to do; `apply` finds it in `inputs.decided`."""
        raise NotImplementedError

    @abstractmethod
    def apply(self, inputs: "StepInputs", settings: S, context: "Context") -> "Candidate":
        """Return the candidate with the step behind it."""

    @property
    def prepares(self) -> bool:
        """Whether there is something to prepare."""
        return type(self).prepare is not Method.prepare

    @property
    def decides(self) -> bool:
        """Whether there is something to decide."""
        return type(self).decide is not Method.decide
