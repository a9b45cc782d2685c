"""What a recipe may say, typed; every fault reported at once with its line and key path."""

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PrivateAttr,
    WithJsonSchema,
    create_model,
    model_validator,
)

from compress.data.input_spec import (
    BOX,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Channels,
    Fit,
    InputSpec,
)
from compress.data.keypoints import PointColumns
from compress.measure.saliency.settings import SaliencySettings
from compress.methods import discover
from compress.methods.base import TEACHER
from compress.metrics.keypoints import USUAL, KeypointTolerance
from compress.recipe.beginning import FROM
from compress.runtimes import discover as discover_runtimes
from compress.tasks import discover as discover_tasks
from compress.tasks import usual_task
from compress.tasks.base import Task
from compress.tasks.settings import TaskSettings
from compress.training.settings import TrainSettings
from compress.utils.errors import UserError
from compress.utils.quantities import parse_bytes, parse_share, parse_times
from compress.utils.settings import (
    Fraction,
    ImageSize,
    Positive,
    RecipeModel,
    check_normalisation,
    sides,
)

NAME = r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*$"

PointName = Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")]
XY = Annotated[list[str], Field(min_length=2, max_length=2)]


def _written(read: Callable[[Any], Any], keep: bool = False) -> Callable[[Any], Any]:
    """Return what makes a number of text; other values are left to the setting's type.

    Args:
        keep: the text is checked only.
    """

    def number(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = read(value)
        except UserError as error:
            raise ValueError(str(error)) from error
        return value if keep else found

    return number


def _number_or_text(**bounds: float) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [{"type": "number", **bounds}, {"type": "string"}]})


Size = Annotated[str | int, AfterValidator(_written(parse_bytes, keep=True))]
Times = Annotated[
    Positive, BeforeValidator(_written(parse_times)), _number_or_text(exclusiveMinimum=0)
]
Share = Annotated[
    Fraction, BeforeValidator(_written(parse_share)), _number_or_text(minimum=0, maximum=1)
]


@cache
def task_model() -> type[RecipeModel]:
    """Return a mapping with exactly one task: `embedding: {…}`; made from those installed."""

    def one_task(self: Any) -> Any:
        self.the_one_of(*type(self).model_fields)
        return self

    fields: dict[str, Any] = {
        name: (task.settings | None, None) for name, task in discover_tasks().items()
    }
    validators: dict[str, Any] = {"one_task": model_validator(mode="after")(one_task)}
    return create_model("Task", __base__=RecipeModel, __validators__=validators, **fields)


class DataSettings(RecipeModel):
    """Where the images are, and what is to be predicted of them.

    They lie at a `path`, or a `builder` makes them, of what lies at the path where there is one (a
    crop of each, say). Predicted are classes, unless `points`, a `box` or both name the columns, in
    pixels, that they are annotated in, or `task` names something else.
    """

    path: str | None = None  # a folder or a CSV file; relative to the file that says so
    builder: str | None = None  # package.module:function(folder, **settings), source=path if given
    settings: dict[str, Any] = {}  # of the builder
    image_column: str | None = None  # of a table; none: it is found by its name and contents
    label_column: str | None = None  # likewise
    points: Annotated[dict[PointName, XY], Field(min_length=1)] | None = None  # name: [x, y]
    box: Annotated[list[str], Field(min_length=4, max_length=4)] | None = None  # x y width height
    task: task_model() | None = None  # type: ignore[valid-type]
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2  # where no split is given
    tune_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None  # of the training images: kept
    # from training, to choose settings by; the validation images then are looked at once
    fit: Fit | None = None  # how other aspect ratios are brought to the input; none: the task's way
    licence: str | None = (
        None  # this and the next: what an exported model's card says of the images
    )
    source: str | None = None

    came_later = ("tune_fraction",)
    old_names = {"picture_column": "image_column"}
    key_names = {"image_column": "picture_column"}

    @model_validator(mode="after")
    def _one_source(self) -> "DataSettings":
        if self.path is None and self.builder is None:
            raise ValueError("give a path (or --data), or a builder that makes the images")
        if self.points is not None and set(self.points) & set(BOX):
            raise ValueError(f"{' and '.join(BOX)} are a box: give box: [x, y, width, height]")
        if self.point_columns is not None and self.label_column is not None:
            raise ValueError("label_column is for classes: remove it, or points and box")
        if self.task is not None and self.point_columns is not None:
            raise ValueError("task says what is predicted: remove it, or points and box")
        return self

    @property
    def point_columns(self) -> PointColumns | None:
        """Where the points are annotated; None where classes are to be predicted."""
        points = self.points or {}
        names = [*(BOX if self.box else ()), *points]
        columns = [*(self.box or ()), *(column for xy in points.values() for column in xy)]
        return PointColumns.of(names, columns) if names else None

    @property
    def asked(self) -> tuple[type[Task[Any]], TaskSettings]:
        """What is to be predicted, and what the recipe says of it."""
        if self.task is None:
            return usual_task(self.point_columns)
        name, settings = chosen(self.task)
        return discover_tasks()[name], settings

    @property
    def image_fit(self) -> Fit:
        """How other aspect ratios are brought to the input."""
        return self.fit or self.asked[0].image_fit


class TeacherSettings(RecipeModel):
    """The network to compress: how it is built, its weights, its input, and whether it is trained.

    `weights` is a safetensors file (or a torch file that holds tensors only), relative to the
    file that says so, or `torchvision:VGG16_Weights.IMAGENET1K_FEATURES`, which downloads.

    Or it is an `onnx` file, likewise: then only what it answers can be used.

    `mean` and `std` are of pixels from 0 to 1, a number for each channel in the order of `channels`
    (bgr: of blue first). One number each means grey images.
    """

    builder: str | None = None
    onnx: str | None = None
    settings: dict[str, Any] = {}
    weights: str | None = None
    image_size: ImageSize = 224
    channels: Channels = "rgb"  # that the network takes; bgr: blue first, as from OpenCV or Caffe
    mean: Annotated[list[float], Field(min_length=1, max_length=3)] = list(IMAGENET_MEAN)
    std: Annotated[list[Positive], Field(min_length=1, max_length=3)] = list(IMAGENET_STD)
    train_only: str | None = None  # this last part anew (e.g. classifier), the rest as in weights
    views: Annotated[int, Field(ge=1, le=100)] = 4  # of each image that it is trained on
    train: TrainSettings | None = None  # none: the weights are taken as they are
    licence: str | None = None  # this and the next: of the weights; none: what their metadata say
    source: str | None = None

    old_names = {"only": "train_only"}
    key_names = {"train_only": "only"}
    came_later = ("channels",)

    def input_spec(self, fit: Fit, **predicts: Any) -> InputSpec:
        """Return what the network expects of an image.

        Args:
            fit: how other aspect ratios are brought to its input.
            predicts: fields of `InputSpec` that say what it answers.
        """
        height, width = sides(self.image_size)
        return InputSpec(
            height=height,
            width=width,
            channels=self.channels,
            mean=tuple(self.mean),
            std=tuple(self.std),
            fit=fit,
            **predicts,
        )

    @model_validator(mode="before")
    @classmethod
    def _one_number_means_grey(cls, value: Any) -> Any:
        if isinstance(value, dict) and "channels" not in value:
            mean = value.get("mean")
            if isinstance(mean, list) and len(mean) == 1:
                return value | {"channels": "grey"}
        return value

    @model_validator(mode="after")
    def _numbers_of_channels(self) -> "TeacherSettings":
        count = 1 if self.channels == "grey" else 3
        if not len(self.mean) == len(self.std) == count:
            numbers = "1 number" if count == 1 else f"{count} numbers"
            raise ValueError(
                f"channels: {self.channels} needs {numbers} in mean and in std, not "
                f"{len(self.mean)} and {len(self.std)}"
            )
        check_normalisation(self.mean, self.std)
        return self

    @model_validator(mode="after")
    def _weights_or_training(self) -> "TeacherSettings":
        if (self.builder is None) == (self.onnx is None):
            raise ValueError("give either builder (and weights, or train), or onnx")
        if self.onnx is not None:
            used = {"settings", "weights", "train_only", "views", "train"} & self.model_fields_set
            if used:
                raise ValueError(
                    f"an onnx file is taken as it is: remove {', '.join(sorted(used))}"
                )
            return self
        if self.weights is None and self.train is None:
            raise ValueError("give weights, or train, or both: a teacher must know something")
        if self.train_only is not None:
            if self.train is None or self.weights is None:
                raise ValueError("train_only needs weights to take the rest from, and train")
            if self.train.progressive:
                raise ValueError("train_only has features of one image_size: no train.progressive")
            for name in ("image_size", "freeze", "cutmix"):
                if getattr(self.train, name) not in (None, 0, []):
                    raise ValueError(f"train_only trains one part on features: no train.{name}")
            if self.train.augmentation.mirror == "new_class":
                raise ValueError("train_only cannot double the classes: no mirror: new_class")
        return self


if TYPE_CHECKING:
    Served = str
else:
    Served = Literal[tuple(discover_runtimes())]  # the runtimes that are installed, ours or others'


def _each_once(value: list[Any]) -> list[Any]:
    if twice := [x for i, x in enumerate(value) if x in value[:i]]:
        raise ValueError(f"names {twice[0]} twice")
    return value


class MeasureSettings(RecipeModel):
    """Where the deployed files are judged and timed, and how.

    Every candidate gets a row in each of the runtimes, and is compared with the teacher in it.
    """

    runtimes: Annotated[list[Served], Field(min_length=1), AfterValidator(_each_once)] = [
        "onnxruntime"
    ]
    threads: Annotated[int, Field(ge=1)] | None = None  # none: all cores the process may use
    processes: Annotated[int, Field(ge=1, le=100)] = 5  # fresh ones, each times everything
    rounds: Annotated[int, Field(ge=5, le=10_000)] = 20  # a process's samples at batch 1
    throughput_batch: Annotated[int, Field(ge=2)] = 32  # images a call
    throughput_rounds: Annotated[int, Field(ge=1, le=1000)] = 2  # a process's samples of it
    batches: list[Annotated[int, Field(ge=2)]] = []  # further ones, in as many rounds
    # When points are right: all within this distance, in units of the largest between two of them.
    tolerance: Positive = USUAL.distance
    iou: Annotated[float, Field(gt=0, le=1)] = USUAL.iou  # when a box is right: at least this

    @property
    def keypoint_tolerance(self) -> KeypointTolerance:
        """How near points and boxes must be to be right."""
        return KeypointTolerance(self.tolerance, self.iou)


class BudgetSettings(RecipeModel):
    """What is asked for; the report names the model that meets all of it."""

    speedup: Times  # at least, against the teacher in the same runtime: 5, or 5x
    max_accuracy_drop: Share  # of top-1 (or of right points): 0.02, or 2%, is two points
    latency_ms: Positive | None = None  # of one image
    min_accuracy: Share | None = None  # 0.8, or 80%
    max_bytes: Size | None = None  # of the file: 6000000, or 6MB
    max_memory: Size | None = None  # of a process that loads the file and runs it
    runtime: Served | None = None  # this one only


@cache
def step_model() -> type[RecipeModel]:
    """A mapping with exactly one step: `distill: {…}`; made from the methods.

    An editor may see `from: NAME` in place of the first; there is none left when this is validated.
    """

    def one_step(self: Any) -> Any:
        if getattr(self, FROM) is not None:
            raise ValueError("from: NAME stands alone, in the first item of a candidate")
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give one step in each list item, of: {', '.join(discover())}")
        return self

    fields: dict[str, Any] = {
        name: (method.settings | None, None) for name, method in discover().items()
    }
    fields[FROM] = (str | None, None)
    validators: dict[str, Any] = {"one_step": model_validator(mode="after")(one_step)}
    return create_model("Step", __base__=RecipeModel, __validators__=validators, **fields)


def chosen(step: Any) -> tuple[str, Any]:
    """Return name and settings of the one step, or task, that a mapping holds."""
    return next((k, v) for k in type(step).model_fields if (v := getattr(step, k)) is not None)


def _out_of_order(kind: str, settings: Any, before: str) -> str | None:
    """Why a step makes no sense after the one before it ("" at the beginning of a chain)."""
    known = discover()
    replaces = known[kind].student(settings) is not None
    if replaces and before:
        return (
            f"{kind} with a student must come first: it starts from a new network, so what "
            f"{before} did would be lost"
        )
    if before and (reason := known[before].nothing_follows):
        return f"{kind} cannot follow {before}: {reason}"
    if kind == "distill" and not replaces and not before:
        return "distill has nothing to learn first: name a student, or prune or factorize before it"
    return None


def _candidate_name(name: str) -> str:
    if not re.match(NAME, name):
        raise ValueError("use letters, digits, _ . - for a candidate's name")
    if name == TEACHER:
        raise ValueError("is the teacher's own name: choose another")
    return name


def _chain(value: list[Any]) -> list[Any]:
    if not value:
        raise ValueError("has no steps")
    before = ""
    for kind, settings in map(chosen, value):
        if reason := _out_of_order(kind, settings, before):
            raise ValueError(reason)
        before = kind
    return value


CandidateName = Annotated[str, AfterValidator(_candidate_name)]


class GridPoint(NamedTuple):
    """Where a candidate lies in the grid that lists of values make."""

    family: str  # the candidate as it was written
    positions: dict[str, int]  # in each list, by key path


class SearchSettings(RecipeModel):
    """How `compress search` goes about the candidates; a run makes all of them."""

    # Share of the validation images that no decision is made by: they judge the last picks, once.
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5


class BaseRecipe(RecipeModel):
    """What every recipe says: of which data, how it is measured, and the budget to choose by."""

    version: Literal[1] = 1  # of the language of recipes
    name: Annotated[str, Field(pattern=NAME)]  # of the report's folder
    description: str = ""  # the question that it answers; stands in the report
    seed: Annotated[int, Field(ge=0)] = 0  # of everything that is drawn
    device: Literal["auto", "cpu", "cuda"] = "auto"
    data: DataSettings
    measure: MeasureSettings = MeasureSettings()
    budget: BudgetSettings | None = None


class Recipe(BaseRecipe):
    """One question a user has: a teacher, data, candidates, and the budget to choose by."""

    teacher: TeacherSettings
    candidates: Annotated[
        dict[CandidateName, Annotated[list[step_model()], AfterValidator(_chain)]],  # type: ignore[valid-type]
        Field(min_length=1),
    ]
    saliency: SaliencySettings | None = None
    search: SearchSettings = SearchSettings()
    _begun: dict[str, int] = PrivateAttr(default_factory=dict)
    _points: dict[str, GridPoint] = PrivateAttr(default_factory=dict)

    def written(self, begun: dict[str, int], points: dict[str, GridPoint]) -> "Recipe":
        """Return the recipe, told how its candidates were written.

        Args:
            begun: of each, how many first steps are another's.
            points: of each, the point of which grid it is.
        """
        recipe = self.model_copy()
        recipe._begun, recipe._points = begun, points
        return recipe

    def point(self, candidate: str) -> GridPoint:
        """Return the point of which grid a candidate is; one that was written out is one alone."""
        return self._points.get(candidate) or GridPoint(candidate, {})

    def first_own_step(self, candidate: str) -> int:
        """Return the position of the first step that is not another candidate's."""
        return self._begun.get(candidate, 0)
