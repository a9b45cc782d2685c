"""Decides in which precision a network trains and answers: the machine and the network say.

bfloat16 doubles VGG's speed where a CPU has instructions for it and makes it 6 to 27 times slower
where it has none; MobileNetV3 is slower in it even where there are. So a few steps are timed in
both, once for each machine, network and size. What was found is kept in the user's cache, not with
a run: where the two are nearly alike, two timings could decide differently, and the same recipe
would train another network in the next folder.
"""

import copy
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from platformdirs import user_cache_path
from torch import nn

from compress.data.input_spec import InputSpec
from compress.methods import discover
from compress.methods.base import TEACHER
from compress.methods.distill.settings import Distillation
from compress.models.builders import build, identity
from compress.models.memory_format import place
from compress.recipe.schema import Recipe, chosen
from compress.runtimes.outputs import in_order
from compress.training.loop import autocast
from compress.training.settings import TrainSettings
from compress.utils.alone import TIMING, alone_on_machine
from compress.utils.errors import UserError
from compress.utils.files import write_text
from compress.utils.seeding import torch_seed

if TYPE_CHECKING:
    from pydantic import BaseModel

    from compress.results.schema import Machine

Settings = TypeVar("Settings", bound="BaseModel")
Work = Literal["training", "inference"]
WORTH_IT = 1.3  # times as fast as float32 that bfloat16 must be
BATCH, STEPS = 4, 3  # images a step; steps that are timed, after one that is not


@dataclass(frozen=True)
class Network:
    """One that trains or answers: its builder, the builder's settings, and its input."""

    builder: str
    settings: dict[str, Any]
    spec: InputSpec
    outputs: int = 2  # that the builder is told of: as likely as can be said before data are read

    @property
    def size(self) -> str:
        """How large its images are, in words: "224 px", "64 x 96 px"."""
        height, width = self.spec.size
        return f"{height} px" if height == width else f"{height} x {width} px"

    def key(self, work: "Work", allowed: tuple[str, ...] = ()) -> str:
        """Return what its times are kept under: another code of the builder has others."""
        code = identity(self.builder, allowed)
        return json.dumps(
            [self.builder, code, self.settings, self.spec.shape, work], sort_keys=True
        )


def user_cache() -> Path:
    """Return the folder in which a user's programs keep what they can find out again."""
    return user_cache_path("compress", appauthor=False)


@dataclass
class Precisions:
    """Resolves `precision: auto` on this machine; what was timed is kept in `folders`.

    The first of these that knows a network decides.
    """

    machine: "Machine"
    device: torch.device
    allowed: tuple[str, ...] = ()
    note: Callable[[str], None] = lambda _: None
    folders: Sequence[Path] = field(default_factory=lambda: [user_cache()])
    _said: set[str] = field(default_factory=set)

    def of(self, wanted: str, network: Network | None, work: Work) -> str:
        """Return the precision to compute in: float32, bfloat16, or float16 on older CUDA devices.

        Args:
            wanted: what the recipe says.
            network: None where there is only a file, which computes as it does.
        """
        if network is None:
            return "float32" if wanted == "auto" else wanted
        if wanted == "auto":
            return self._fastest(network, work)
        if wanted == "bfloat16" and self.device.type == "cpu" and not self.machine.has_bfloat16:
            slower = 1 / self.speedup(network, work)
            self._say(
                f"precision: bfloat16 is {slower:.1f} times as slow as float32 in {work} of "
                f"{network.builder} at {network.size}: this CPU only emulates it. Use "
                "precision: auto."
            )
        return wanted

    def _fastest(self, network: Network, work: Work) -> str:
        if self.device.type == "cuda":
            return "bfloat16" if torch.cuda.is_bf16_supported(False) else "float16"
        if not self.machine.has_bfloat16:
            return "float32"
        speedup = self.speedup(network, work)
        found = "bfloat16" if speedup >= WORTH_IT else "float32"
        self._say(
            f"precision: {work} of {network.builder} at {network.size} in {found} "
            f"(bfloat16 is {speedup:.2f} times as fast as float32)"
        )
        return found

    def _say(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self.note(sentence)

    @cached_property
    def _name(self) -> str:
        """The file of such machines as this one."""
        here = [self.machine.comparable(), self.machine.cpu_flags]
        owner = json.dumps([*here, torch.__version__, torch.get_num_threads()])
        return f"precision-{hashlib.sha256(owner.encode()).hexdigest()[:12]}.json"

    def speedup(self, network: Network, work: Work) -> float:
        """Return how many times as fast as in float32 the network's step is in bfloat16."""
        key = network.key(work, self.allowed)
        found = self._known(key)
        if found is None:
            try:
                with alone_on_machine(TIMING, self.note):
                    found = self._known(key)  # another run may have timed it meanwhile
                    if found is None:
                        found = measure(network, work, self.device, self.allowed)
            except UserError:
                raise
            except Exception:  # whatever a network raises that does not take its images
                return 1.0  # it is refused, with the reason, when the stages are planned
        for folder in self.folders:
            self._keep(folder / self._name, key, found)
        return found

    def _known(self, key: str) -> float | None:
        tables = (_read(folder / self._name) for folder in self.folders)
        return next((known[key] for known in tables if key in known), None)

    def _keep(self, table: Path, key: str, speedup: float) -> None:
        known = _read(table)
        if known.get(key) == speedup:
            return
        try:
            write_text(table, json.dumps(known | {key: speedup}, indent=0))
        except OSError as error:
            self._say(
                f"precision: what was timed cannot be kept ({error}), so that the next run decides "
                "anew; XDG_CACHE_HOME names another folder."
            )


def _read(path: Path) -> dict[str, float]:
    try:
        return json.loads(path.read_text("utf-8"))  # type: ignore[no-any-return]
    except (OSError, ValueError):
        return {}


def measure(network: Network, work: Work, device: torch.device, allowed: tuple[str, ...]) -> float:
    """Time a few steps of the network in float32 and bfloat16, by turns; return their ratio."""
    with torch_seed(0, "precision"):
        shape = network.spec.shape
        model = build(network.builder, network.settings, network.outputs, allowed, shape)
        images = torch.randn(BATCH, *shape).to(device)
        layout = place(model, device, images, trains=work == "training")
        images = images.contiguous(memory_format=layout)
        model.train(work == "training")
        seconds: dict[str, list[float]] = {"float32": [], "bfloat16": []}
        for _ in range(1 + STEPS):
            for precision, taken in seconds.items():
                started = time.perf_counter()
                _step(copy.deepcopy(model), images, precision, work)
                taken.append(time.perf_counter() - started)
    return statistics.median(seconds["float32"][1:]) / statistics.median(seconds["bfloat16"][1:])


def _step(model: nn.Module, images: torch.Tensor, precision: str, work: Work) -> None:
    with torch.set_grad_enabled(work == "training"):
        with autocast(images.device, precision):
            outputs = in_order(model(images))
        if work == "training":
            torch.stack([x.float().square().mean() for x in outputs]).sum().backward()  # type: ignore[no-untyped-call]


def device_of(wanted: str) -> torch.device:
    """Return what networks train on here where auto, cpu or cuda is asked for.

    Raises:
        UserError: cuda, and there is none.
    """
    cuda = torch.cuda.is_available()
    if wanted == "cuda" and not cuda:
        raise UserError("device: cuda was asked for, but torch finds no CUDA device: use auto.")
    compute_alike()
    return torch.device("cuda" if cuda and wanted != "cpu" else "cpu")


def compute_alike() -> None:
    """Have CUDA compute the same in every process, and float32 in float32."""
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False


def resolved(recipe: Recipe, precisions: Precisions) -> Recipe:
    """Return the recipe with every precision decided, so that it is part of the stages' keys."""
    given = recipe.teacher
    spec = given.input_spec(recipe.data.image_fit)
    task, asked = recipe.data.asked
    outputs = task.likely_outputs(asked)
    teacher = None
    if given.builder is not None:
        teacher = Network(given.builder, given.settings, spec, outputs)
    networks = {
        name: [*_networks([chosen(step) for step in chain], teacher, spec, outputs)]
        for name, chain in recipe.candidates.items()
    } | {TEACHER: [teacher]}
    candidates = {}
    for name, chain in recipe.candidates.items():
        steps = []
        for step, network in zip(chain, networks[name], strict=True):
            kind, settings = chosen(step)
            teaching = discover()[kind].teachers(settings)
            tutor = networks[teaching[0]][-1] if teaching else teacher
            decided = _decided(settings, network, tutor, precisions)
            steps.append(step.model_copy(update={kind: decided}))
        candidates[name] = steps
    return recipe.model_copy(
        update={
            "teacher": _decided(given, teacher, teacher, precisions),
            "candidates": candidates,
        }
    )


def _networks(
    chain: Sequence[tuple[str, Any]], teacher: Network | None, spec: InputSpec, outputs: int
) -> Iterator[Network | None]:
    """Yield the network that each step trains or makes."""
    network = teacher
    for kind, settings in chain:
        if student := discover()[kind].student(settings):
            own = spec.at(student.image_size) if student.image_size else spec
            network = Network(student.builder, student.settings, own, outputs)
        yield network


def _decided(
    settings: Settings, network: Network | None, teacher: Network | None, precisions: Precisions
) -> Settings:
    """Return settings whose precisions, theirs and those of settings within, are decided."""
    update: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, TrainSettings | Distillation):
            update[name] = _decided(value, network, teacher, precisions)
        elif name == "precision":
            work: Work = "training" if isinstance(settings, TrainSettings) else "inference"
            update[name] = precisions.of(value, network, work)
        elif name == "teacher_precision":
            update[name] = precisions.of(value, teacher, "inference")
    return settings.model_copy(update=update)
