"""Curves and numbers for TensorBoard: `tensorboard --logdir runs`."""

from collections.abc import Mapping
from pathlib import Path

import tensorboard  # noqa: F401  (torch's writer needs it, and says less clearly that it is missing)
from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes event files into the run's folder; of a report and a model, where they are."""

    def __init__(self, run: str, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def numbers(self, of: str, values: Mapping[str, float], step: int = 0) -> None:
        """Write a point of each curve."""
        for key, value in values.items():
            self._writer.add_scalar(f"{of}/{key}", value, step)

    def folder(self, folder: Path, called: str) -> None:
        """Write the report's text; its page lies in the folder."""
        text = (folder / "report.md").read_text("utf-8")
        self._writer.add_text(called, f"{folder.resolve() / 'report.html'}\n\n{text}")

    def file(self, file: Path, called: str) -> None:
        """Write where the model is: TensorBoard keeps no files."""
        self._writer.add_text(f"{called}/file", str(file.resolve()))
