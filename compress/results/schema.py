"""What was measured: one `Result` per artifact and runtime, a `Failure` where there is none.

Units are in the names; everything is SI (seconds, bytes) and fractions in [0, 1]. Readers of it
(report, choose) need neither torch nor a runtime.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from compress.utils.interval import Interval
from compress.utils.record import Record

# 2: samples by process, step reports, dropped; 3: answers, slices, percentiles, conditions;
# 4: failures beside the results; 5: of what kind a control is
SCHEMA_VERSION: Final = 5

# By the name that `compress.runtimes` knows it by where it is installed; torch beside them.
Runtime = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=40)]
Deployed = Runtime  # without torch
# Of a machine's versions, those that are no runtime's.
LIBRARIES = ("compress", "torch", "torchvision", "onnx", "numpy")
TOP1, RIGHT = "top-1", "right answers"
Role = Literal["teacher", "candidate", "control"]
# What a control was not given; a method from outside may have kinds of its own.
NO_TEACHER: Final = "no teacher"
FROM_SCRATCH: Final = "from scratch"
SaliencyMethod = Literal["grad_cam", "occlusion", "deconvolution"]
Jpeg = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]*={0,2}$")]  # in base64

BF16_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")  # of CPUs that multiply bfloat16 themselves
# By flag, the best first.
INSTRUCTION_SETS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "avx": "AVX",
    "i8mm": "Arm I8MM",
    "asimddp": "Arm dot product",
    "asimd": "Arm NEON",
}


@dataclass(frozen=True, order=True)
class RowKey:
    """What tells the rows of a table apart, and finds the same row in another report.

    The recipe is no part of it: a joined report gives candidates that two recipes call alike the
    recipe as prefix, and a row is compared with that of the same name in another recipe's report.
    """

    candidate: str
    runtime: str

    def __str__(self) -> str:
        """Return the row's name for people."""
        return f"{self.candidate} in {self.runtime}"


class Machine(Record):
    """Where it was measured. Results of different machines never share a table."""

    cpu: str
    cpu_flags: list[str]
    cores: int
    memory_bytes: int
    system: str
    python: str
    versions: dict[str, str]

    @property
    def has_bfloat16(self) -> bool:
        """Whether the CPU multiplies bfloat16 itself: without, it is emulated and slow."""
        return bool(set(BF16_FLAGS) & set(self.cpu_flags))

    @property
    def has_vnni(self) -> bool:
        """Whether sums of 8-bit products never pass through 16 bits: VNNI, or no x86."""
        x86 = self.system.endswith(("x86_64", "AMD64"))
        return not x86 or bool({"avx512_vnni", "avx_vnni"} & set(self.cpu_flags))

    @property
    def instruction_set(self) -> str:
        """The CPU's instructions that decide what int8 layers answer; else the system's name."""
        found = (name for flag, name in INSTRUCTION_SETS.items() if flag in self.cpu_flags)
        return next(found, self.system)

    def comparable(self) -> tuple[object, ...]:
        """What must agree for two latencies to be compared."""
        runtimes = {k: v for k, v in self.versions.items() if k not in LIBRARIES}
        return (self.cpu, self.cores, tuple(sorted(runtimes.items())))


class ArtifactFacts(Record):
    """The deployed file, and what can be counted in it without running it."""

    path: str  # relative to the folder `compress run` was given with --out
    sha256: str
    runtime: Runtime
    size_bytes: int  # of both files where there are two
    parameters: int
    macs: int | None  # multiply-accumulates of one image
    uncounted_operations: list[str] = []
    input_height: int
    input_width: int


class SingleImageClasses(Record):
    """Classes with exactly one labelled image; `in_training` of them were trained on."""

    images: int
    in_training: int
    top1: float


class Slice(Record):
    """The validation images of all classes that had about as many images to train on."""

    name: str
    fewest: int  # training images of such a class
    most: int | None  # None: any number
    classes: int
    images: int
    top1: Interval


class PointErrors(Record):
    """How far predicted points are from the true ones, and when an image counts as right.

    Where there are a box and other points, distances and angles are those of the others. Distances
    are relative to the largest between two true points of the image (a head's length, a box's
    diagonal), with a single point to the image's diagonal.
    """

    tolerance: float | None = None  # right: every point at most this far; not of boxes
    least_iou: float | None = None  # right: a box whose intersection over union is at least this
    median_distance: float  # over all points
    p90_distance: float
    mean_iou: float | None = None  # of boxes
    # Of the direction from the second point to the first, where there are two; not of boxes.
    median_angle_degrees: float | None = None

    @property
    def rule(self) -> str:
        """When an image is right, in words."""
        asked = []
        if self.least_iou is not None:
            asked.append(f"the box has an intersection over union of at least {self.least_iou:g}")
        if self.tolerance is not None:
            asked.append(
                f"every point is at most {self.tolerance:g} off, in units of the largest distance "
                "between the true points (a single point: of the image's diagonal)"
            )
        return ", and ".join(asked)


class Metric(Record):
    """A number that a task gives beside the one that networks are judged by."""

    name: str  # with its unit, as a column's heading
    value: float | None
    meaning: str  # the same of every row: what differs is in `value` and `interval`
    better: Literal["higher", "lower"] = "higher"
    interval: Interval | None = None  # of the value, in its unit; None: none was computed

    @classmethod
    def share(cls, name: str, found: Interval, meaning: str) -> Self:
        """Return a share that is better the higher it is, in per cent, with its interval."""
        whole = found.model_copy(
            update={"value": 100 * found.value, "low": 100 * found.low, "high": 100 * found.high}
        )
        return cls(name=name, value=whole.value, meaning=meaning, interval=whole)


class Accuracy(Record):
    """Computed from the artifact in its runtime, on the validation split."""

    images: int
    top1: Interval  # images answered right; where points are predicted, as `points` says
    top5: float | None = None  # this and the next two: of classes
    log_loss: float | None = None  # nats
    macro_recall: float | None = None  # mean over the classes present in the validation split
    single_image_classes: SingleImageClasses | None = None
    slices: list[Slice] = []  # fewest training images first; [] where these are not known
    calibration_error: float | None = None  # in [0, 1], see compress/metrics/accuracy.py
    # One '1' or '0' per validation image, in the dataset's order; of other records empty.
    correct: str
    answers: list[int] = []  # the class named for each, or what is nearest; [] before schema 3
    # Against the teacher in the same runtime; None for the teacher.
    top1_drop: Interval | None = None  # teacher minus this, paired
    drop_p_value: float | None = None  # McNemar's exact test: both are right equally often
    agreement: float | None = None  # share of the images to which both answer the same
    points: PointErrors | None = None  # None where classes are predicted
    # Where an answer is more than right or wrong: `top1` is what the task says of all records.
    task: str = ""
    metric: str = ""  # what that number is called
    records: list[Any] = []  # one per validation image, as the task made it
    further: list[Metric] = []

    @property
    def rule(self) -> str:
        """When an image is right, in words; empty where nothing of it can be chosen."""
        return self.points.rule if self.points else ""

    @property
    def word(self) -> str:
        """What the number is called that a network is judged by."""
        return self.metric or (RIGHT if self.points else TOP1)


class Percentile(Record):
    """What `percent` of all calls take at most, with 99 % confidence; None: too few samples."""

    percent: int
    bound_s: float | None
    needs_samples: int


class Latency(Record):
    """Wall time of one call with `batch` images, inputs in memory, after warm-up."""

    batch: int
    threads: int
    median_s: float
    p95_s: float  # of the samples; `percentiles` says what may be promised
    images_per_s: float
    # Raw, one list a process; the i-th samples of its artifacts are one interleaved round.
    samples_s: list[list[float]]
    percentiles: list[Percentile] = []  # p50, p90, p95, p99
    # Cores that other processes used while this was timed, the largest over the processes kept.
    disturbance_cores: float | None = None
    steal_cores: float | None = None  # the part of it that went to other virtual machines
    frequency_mhz: tuple[float, float] | None = None  # lowest and highest of the fastest core
    cpus: list[int] = []  # numbers of the CPUs that it could use (affinity)
    warnings: list[str] = []  # what casts doubt on these numbers: cause and what to do

    @field_validator("samples_s", mode="before")
    @classmethod
    def _one_process(cls, value: Any) -> Any:
        """Schema 1 timed in one process."""
        return [value] if value and isinstance(value[0], float) else value


class Speedup(Record):
    """How many times faster than `against`: paired ratios, the median of the processes' medians."""

    against: str
    runtime: str  # of the reference
    threads: int
    batch: int
    ratio: Interval


class Epoch(Record):
    epoch: int
    loss: float
    validation_top1: float | None = None  # torch model, while training; never what is reported
    seconds: float
    images_per_s: float


class PseudoLabels(Record):
    """Unlabelled images that a teacher's answers stood in for labels of, and how good these are."""

    kept: int
    of: int
    min_confidence: float
    temperature: float  # that the teacher's logits were divided by
    validation_kept: int  # validation images that it would have been as sure of
    validation_of: int
    validation_right: float | None  # of those, how often it is right; None: there are none

    @property
    def described(self) -> str:
        """What a reader must know of them, in a sentence without its full stop."""
        said = f"{self.kept} of {self.of} unlabelled images are kept"
        if self.validation_right is None:
            return f"{said}; of no validation image is the teacher as sure"
        return (
            f"{said}; of {self.validation_kept} of {self.validation_of} validation images the "
            f"teacher is as sure, and it is right in {100 * self.validation_right:.1f} % of them"
        )


class Training(Record):
    """How the candidate was trained."""

    description: str
    labelled_images: int
    unlabelled_images: int = 0  # > 0: transductive when these are the test images
    pseudo_labels: PseudoLabels | None = None
    precision: str | None = None  # None: before it was kept
    machine: str | None = None  # the CPU or GPU that it was trained on; None: likewise
    seconds: float
    epochs: list[Epoch] = []


class Decision(Record):
    """What a step tried on one layer, what that costs on the runtime, and whether it was kept."""

    layer: str
    change: str
    before_s: float | None = None  # the layer's time in the runtime, as it was
    int8_s: float | None = None  # in int8, where that is the alternative
    after_s: float | None = None
    limit_share: float | None = None  # of the highest rate this machine reached in such layers
    kept: bool
    reason: str = ""


class Target(Record):
    """What a step was asked for, what it predicted before the whole network was measured."""

    quantity: Literal["speedup", "macs", "ratio"]
    asked: float
    predicted: float | None = None
    measured: float | None = None  # by the step, on an export of its own; the row is measured anew


class StepReport(Record):
    """What one step of a chain has to say for itself."""

    step: str
    target: Target | None = None
    decisions: list[Decision] = []
    notes: list[str] = []


class JudgedPhotograph(Record):
    """What a pipeline answered to one annotated photograph, beside what is true.

    None where the photograph has no such annotation, or the pipeline finds no such thing.
    """

    image: str
    label: str | None
    named: str | None  # None: not sure enough to give a name
    probability: float | None  # of the most probable name
    rank: int | None  # of the right name, 1 is the best; None where the pipeline does not know it
    iou: float | None  # intersection over union of the boxes, 0 to 1
    centre_inside: bool | None  # whether the middle of the found box lies in the true one
    distance: float | None  # mean of the points' distances, in distances of the true points
    angle_error_degrees: float | None  # of the direction between the two points, 0 to 180
    seconds: float  # from the file's bytes to the name
    parts_s: dict[str, float]  # decode, and each stage's look and network


class Verdict(Record):
    """What several photographs say together."""

    images: int
    top1: Interval | None
    top5: float | None
    named: float | None  # share that got a name at all
    mean_iou: float | None
    centres_inside: float | None
    median_distance: float | None
    median_angle_error_degrees: float | None
    p50_s: float
    p95_s: float
    parts_s: dict[str, float]  # medians


class CascadeFacts(Record):
    """Of a row that is a pipeline of several networks: which, what was predicted, how it did."""

    networks: dict[str, str]  # stage -> candidate of the stage's recipe
    predicted_s: float | None = None  # from the stages' own measurements; None: not predicted
    predicted_top1: float | None = None
    verdict: Verdict
    # Further photographs, judged one by one: by the name that the recipe gives them.
    listed: dict[str, list[JudgedPhotograph]] = {}


class Looks(Record):
    """Where one method says that a network looks, over the images whose map is not empty."""

    images: int
    share_inside: Interval  # of the saliency, in the image's box
    times_even: Interval  # that, as a multiple of what an even map has there


class Saliency(Record):
    """What a candidate's answers rest on."""

    images: int  # with a box
    area_share: float | None = None  # of the input, that the boxes cover; None without boxes
    looks: dict[SaliencyMethod, Looks] = {}
    gallery: dict[
        str, list[Jpeg]
    ] = {}  # by method, and "picture": the same images in each; or "answer"
    notes: list[str] = []


class LayerTime(Record):
    """A layer of a deployed file: a kernel of the runtime and what it computes, at batch 1."""

    name: str
    operation: str
    precision: str
    seconds: float
    macs: int | None = None  # multiply-accumulates; None: cannot be counted


class Origin(Record):
    """Something that a network was made of; what nobody said is None."""

    what: str  # the images or weights, by name
    licence: str | None = None
    source: str | None = None


class Line(Record):
    """What every line of a results file says: which run it is of, and which candidate."""

    schema_version: Literal[5] = SCHEMA_VERSION
    recipe: str
    run: str  # content key of the plan
    candidate: str
    role: Role
    control_of: str | None = None
    control: str | None = None  # its kind: NO_TEACHER, FROM_SCRATCH, or a method's own

    @model_validator(mode="before")
    @classmethod
    def _migrated(cls, value: Any) -> Any:
        """Older lines lack fields; the kind of a control stood in the brackets of its name."""
        if not isinstance(value, dict) or value.get("schema_version") not in (1, 2, 3, 4):
            return value
        named = re.search(r"\(([^()]+)\)$", str(value.get("candidate")))
        kind = named[1] if named and value.get("role") == "control" else None
        return {**value, "schema_version": SCHEMA_VERSION, "control": kind}


class Result(Line):
    """One artifact in one runtime, everything that was measured about it."""

    data: str  # content key of the data stage: images and split
    command: str  # reproduces this row
    measured_at: str  # ISO 8601, UTC
    lineage: list[str] = []  # from the teacher to this candidate, one entry a step
    origins: list[Origin] = []  # [] before it was kept
    artifact: ArtifactFacts
    accuracy: Accuracy
    latency: list[Latency]
    # Of a fresh process that loads the file and runs it once.
    peak_memory_bytes: int | None = None
    cold_start_s: float | None = None  # loading and the first call; the runtime was imported before
    energy_j: float | None = None  # of the CPU package for one call at batch 1, where it is counted
    speedup: Speedup | None = None  # against the teacher in the same runtime, same threads, batch 1
    throughput_speedup: Speedup | None = None  # the same at the largest batch measured
    speedup_as_served: Speedup | None = None  # against the teacher in torch eager, batch 1
    gain_over_control: Interval | None = None  # top-1, this minus its control, paired
    training: Training | None = None
    steps: list[StepReport] = []
    pipeline: CascadeFacts | None = None
    layers: list[LayerTime] = []  # in the order of execution; not of controls, nor in torch
    saliency: Saliency | None = None  # where the recipe asks for it, in the first runtime
    dropped: str | None = None  # why this row is no candidate for a choice, in a sentence
    # Files that were judged on the same validation images, for this recipe, in all runs so far.
    files_judged: int | None = None
    notes: list[str] = []
    machine: Machine

    @property
    def key(self) -> RowKey:
        """What the row is addressed by."""
        return RowKey(self.candidate, self.artifact.runtime)

    @property
    def reference(self) -> RowKey | None:
        """The teacher that it was compared with in its runtime; None: with none."""
        if self.speedup is None or self.accuracy.top1_drop is None:
            return None
        return RowKey(self.speedup.against, self.artifact.runtime)

    @property
    def competes(self) -> bool:
        """Whether it could be served: torch is only a reference, and what was dropped is not."""
        return self.artifact.runtime != "torch" and self.dropped is None

    @property
    def at_smallest_batch(self) -> Latency:
        """Batch 1 unless another was chosen."""
        return min(self.latency, key=lambda x: x.batch)

    @property
    def at_largest_batch(self) -> Latency:
        return max(self.latency, key=lambda x: x.batch)

    @property
    def latency_s(self) -> float:
        """Median seconds of one image at the smallest batch measured."""
        return self.at_smallest_batch.median_s

    @property
    def throughput(self) -> float:
        """Images per second at the largest batch measured."""
        return self.at_largest_batch.images_per_s


class Failure(Line):
    """A candidate that could not be made or measured: a row without numbers."""

    reason: str
