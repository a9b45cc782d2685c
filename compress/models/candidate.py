"""A model in memory, what it expects of a picture, and how it came to be."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from compress.data.input_spec import InputSpec
from compress.models import onnx_network
from compress.models.builders import build
from compress.models.checkpoint import load_into, load_tensors, save_tensors
from compress.models.structure import Replaced, restructure
from compress.results.schema import StepReport, Training
from compress.utils.errors import UserError
from compress.utils.seeding import torch_seed

FILE = "model.safetensors"


@dataclass(frozen=True)
class Candidate:
    """A network with its builder (so that it can be rebuilt), input spec and lineage."""

    model: nn.Module
    builder: str
    settings: dict[str, Any]
    spec: InputSpec
    lineage: tuple[str, ...]
    training: Training | None = None
    replaced: tuple[Replaced, ...] = ()  # layers that a step made others of
    steps: tuple[StepReport, ...] = ()
    dropped: str | None = None  # why no user should deploy this
    deployed: str | None = None  # a file beside the weights that is deployed instead of an export

    @classmethod
    def create(
        cls,
        builder: str,
        settings: dict[str, Any],
        spec: InputSpec,
        lineage: tuple[str, ...],
        seed: int,
        allowed: Sequence[str],
    ) -> "Candidate":
        """A new network with weights drawn from `seed`."""
        with torch_seed(seed, "weights"):
            model = build(builder, settings, spec.outputs, allowed)
        check_forward(model, spec, builder)
        return cls(model, builder, settings, spec, lineage)

    def with_training(self, training: Training) -> "Candidate":
        return replace(self, training=training)

    def after(self, lineage: str, report: StepReport | None = None, **changes: Any) -> "Candidate":
        """This candidate with one more step behind it.

        Args:
            report: none where the step's decision has all there is to say.
        """
        steps = self.steps if report is None else (*self.steps, report)
        return replace(self, lineage=(*self.lineage, lineage), steps=steps, **changes)

    def save(self, folder: Path, made_by: Mapping[str, Any], inputs: Mapping[str, Path]) -> None:
        """Writes `model.safetensors`; its metadata say how to build it and what made it.

        Args:
            made_by: settings of the stage that made it.
            inputs: that stage's folders of inputs.
        """
        metadata = {
            "builder": self.builder,
            "settings": self.settings,
            "spec": self.spec.model_dump(),
            "lineage": self.lineage,
            "training": self.training.model_dump() if self.training else None,
            "replaced": self.replaced,
            "steps": [report.model_dump() for report in self.steps],
            "dropped": self.dropped,
            "deployed": self.deployed,
            "made_by": {
                "settings": made_by,
                "inputs": {role: path.name for role, path in inputs.items()},
            },
        }
        save_tensors(folder / FILE, self.model.state_dict(), metadata)

    @classmethod
    def load(cls, folder: Path, allowed: Sequence[str]) -> "Candidate":
        """Reads what `save` wrote; the model is in evaluation mode on the CPU.

        Raises:
            UserError: missing, damaged, or not one of ours.
        """
        path = folder / FILE
        tensors, metadata = load_tensors(path)
        if "builder" not in metadata or "spec" not in metadata:
            raise UserError(f"{path} does not say how its network is built; run the recipe again.")
        spec = InputSpec.model_validate(metadata["spec"])
        past = History.of(metadata)
        if metadata["builder"] == onnx_network.BUILDER:
            assert past.deployed is not None
            return cls(
                onnx_network.OnnxNetwork(folder / past.deployed),
                metadata["builder"],
                metadata["settings"],
                spec,
                past.lineage,
                steps=past.steps,
                dropped=past.dropped,
                deployed=past.deployed,
            )
        with torch.random.fork_rng(devices=[]):
            model = build(metadata["builder"], metadata["settings"], spec.outputs, allowed)
        replaced = tuple(Replaced(*change) for change in metadata.get("replaced", ()))
        restructure(model, replaced, tensors)
        load_into(model, tensors, path)
        return cls(
            model.eval(),
            metadata["builder"],
            metadata["settings"],
            spec,
            past.lineage,
            past.training,
            replaced,
            past.steps,
            past.dropped,
            past.deployed,
        )


@dataclass(frozen=True)
class History:
    """How a saved candidate came to be, read without building its network."""

    lineage: tuple[str, ...]
    training: Training | None
    steps: tuple[StepReport, ...]
    dropped: str | None
    deployed: str | None

    @classmethod
    def load(cls, folder: Path) -> "History":
        with safe_open(folder / FILE, "pt") as file:
            return cls.of({k: json.loads(v) for k, v in file.metadata().items()})

    @classmethod
    def of(cls, metadata: dict[str, Any]) -> "History":
        training = metadata["training"]
        return cls(
            tuple(metadata["lineage"]),
            Training.model_validate(training) if training else None,
            tuple(StepReport.model_validate(report) for report in metadata.get("steps", ())),
            metadata.get("dropped"),
            metadata.get("deployed"),
        )


def check_forward(model: nn.Module, spec: InputSpec, builder: str) -> None:
    """Runs two empty pictures in training mode: better now than after hours of a teacher's.

    Raises:
        UserError: the network does not take such pictures, or gives no such outputs.
    """
    trial = copy.deepcopy(model).train()  # a copy: batch norms take notice of what they see
    with torch.no_grad():
        try:
            outputs = trial(torch.zeros(2, 3, spec.height, spec.width))
        except Exception as error:
            raise UserError(
                f"{builder} does not take pictures of {spec.height} x {spec.width}: {error}"
            ) from error
    if not isinstance(outputs, torch.Tensor) or outputs.shape != (2, spec.outputs):
        got = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise UserError(
            f"{builder} gives {got} for two pictures; expected "
            f"{(2, spec.outputs)}: it is to predict {spec.named}."
        )
