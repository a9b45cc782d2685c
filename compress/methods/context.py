"""What stages and steps are given besides their settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.data.dataset import Dataset
from compress.metrics.keypoints import USUAL, KeypointTolerance
from compress.utils.progress import Progress

if TYPE_CHECKING:
    import torch

    from compress.data.image_cache import Decoded
    from compress.measure.layer_times import LayerTimes
    from compress.models.candidate import Candidate
    from compress.results.schema import Machine

BUILT = "pictures"  # below the data stage's folder: what a data builder made


@dataclass(frozen=True)
class Context:
    """One per run: seed, device, threads and what the user allowed are decided once."""

    seed: int
    device: "torch.device"
    threads: int
    allowed: tuple[str, ...]
    progress: Progress
    data_path: Path | None  # where the images lie; None where a builder makes them
    files: Mapping[str, Path]  # of weights, by the hash that stages know them by
    tables: Path  # what layers cost on this machine, kept for all recipes
    machine: "Machine"
    tolerance: KeypointTolerance = USUAL  # how near points and boxes must be to be right

    @property
    def processor(self) -> str:
        """The name of the CPU or GPU that networks train on."""
        if self.device.type == "cpu":
            return self.machine.cpu
        import torch

        return torch.cuda.get_device_name(self.device)

    def layer_times(self) -> "LayerTimes":
        """The table of what layers cost in onnxruntime here."""
        from compress.measure.layer_times import LayerTimes

        owner = [self.machine.comparable(), self.machine.cpu_flags]
        return LayerTimes(self.tables, owner, self.threads, self.progress.note)

    def data(self, folder: Path) -> Dataset:
        """The dataset of a data stage's folder."""
        built = folder / BUILT
        path = built if built.is_dir() or self.data_path is None else self.data_path
        return Dataset.load(folder, path.parent if path.is_file() else path)

    def pixels(self, data: Dataset, folder: Path) -> "Decoded":
        """Decoded images as a network takes them, cached in the data stage's folder."""
        from compress.data.image_cache import Decoded

        return Decoded(data, folder)


@dataclass(frozen=True)
class StepInputs:
    """What a step works on; `folder` is its own to write to."""

    data: Dataset
    pixels: "Decoded"  # what is decoded of `data`
    previous: Path  # the candidate the step starts from
    teacher_folder: Path
    teacher_outputs: tuple[Path, ...]  # cached, of each that teaches; none: they are asked
    taught_by: tuple[Path, ...]  # networks that are asked; none: the recipe's teacher
    teacher_artifact: Path | None  # for what is decided by measuring
    decided: dict[str, Any] | None  # by the step's own `decide`
    folder: Path
    allowed: tuple[str, ...]

    @cached_property
    def teacher(self) -> "Candidate":
        from compress.models.candidate import Candidate

        return Candidate.load(self.teacher_folder, self.allowed)

    @cached_property
    def teacher_file(self) -> Path:
        """The teacher as deployed in onnxruntime, for what is decided by measuring."""
        from compress.export.artifact import Artifact

        assert self.teacher_artifact is not None, "only given to `decide`"
        return Artifact.load(self.teacher_artifact).path
