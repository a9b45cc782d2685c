"""A model in memory, what it expects of an image, and how it came to be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.data.input_spec import InputSpec
from compress.models import onnx_network
from compress.models.builders import build
from compress.models.checkpoint import load_into, load_tensors, save_tensors
from compress.models.provenance import FILE, Provenance
from compress.models.structure import Replaced, restructure
from compress.models.trial import check_forward
from compress.results.schema import StepReport, Training
from compress.utils.errors import UserError
from compress.utils.seeding import torch_seed


@dataclass(frozen=True)
class Candidate:
    """A network with its builder (so that it can be rebuilt), input spec and provenance."""

    model: nn.Module
    builder: str
    settings: dict[str, Any]
    spec: InputSpec
    provenance: Provenance

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
            model = build(builder, settings, spec.num_outputs, allowed, spec.shape)
        check_forward(model, spec, builder)
        return cls(model, builder, settings, spec, Provenance(lineage))

    @property
    def name(self) -> str:
        """What it is, in the words of its last step."""
        return self.provenance.lineage[-1]

    @property
    def deployed(self) -> str | None:
        """A file beside the weights that is deployed instead of an export."""
        return self.provenance.deployed

    def trained(self, training: Training) -> "Candidate":
        """Return the same candidate with its training told, and which unlabelled images taught it.

        Those of an earlier training still taught it when a later one did without them.
        """
        past = self.provenance.training
        if past is not None:
            unlabelled = max(past.unlabelled_images, training.unlabelled_images)
            pseudo_labels = training.pseudo_labels or past.pseudo_labels
            training = training.model_copy(
                update={"unlabelled_images": unlabelled, "pseudo_labels": pseudo_labels}
            )
        return replace(self, provenance=replace(self.provenance, training=training))

    def after(
        self,
        step: str,
        model: nn.Module | None = None,
        spec: InputSpec | None = None,
        replaced: Sequence[Replaced] = (),
    ) -> "Candidate":
        """Return this candidate with one more step behind it.

        Args:
            step: in words.
            model, spec: where the step made others.
            replaced: layers that it made others of.
        """
        past = self.provenance
        past = replace(past, lineage=(*past.lineage, step), replaced=(*past.replaced, *replaced))
        return replace(self, model=model or self.model, spec=spec or self.spec, provenance=past)

    def deployed_as(self, file: str, report: StepReport, dropped: str | None = None) -> "Candidate":
        """Return this candidate with the file that stands for it, and what is to be said of it.

        Args:
            file: beside the weights.
            dropped: why nobody should use it.
        """
        past = self.provenance
        steps = (*past.steps, report)
        past = replace(past, steps=steps, deployed=file, dropped=dropped)
        return replace(self, provenance=past)

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
            **self.provenance.as_metadata(),
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
        past = Provenance.of(metadata)
        builder, settings = metadata["builder"], metadata["settings"]
        if builder == onnx_network.BUILDER:
            assert past.deployed is not None
            model: nn.Module = onnx_network.OnnxNetwork(folder / past.deployed)
            return cls(model, builder, settings, spec, past)
        with torch.random.fork_rng(devices=[]):
            model = build(builder, settings, spec.num_outputs, allowed, spec.shape)
        restructure(model, past.replaced, tensors)
        load_into(model, tensors, path)
        return cls(model.eval(), builder, settings, spec, past)
