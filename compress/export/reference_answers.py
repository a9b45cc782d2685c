"""What a deployed file answered where it was judged, kept in the file, so that another machine can
tell that it answers otherwise (int8 on a CPU without VNNI, another version of the runtime).

The eight inputs are made from a fixed seed, never from anybody's images. templates/predict.py.j2
makes the same ones and compares in the same way.
"""

import base64
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from compress.data.input_spec import InputSpec, normalise
from compress.export.metadata import write_metadata
from compress.models.sessions import infer, open_session
from compress.results.schema import Machine
from compress.runtimes import REFERENCE_KEY, Session, discover, package_of
from compress.runtimes.outputs import Outputs, joined
from compress.tasks import task_of
from compress.utils.errors import UserError

COUNT = 8
TOLERANCE = 0.01  # largest difference, as a fraction of the standard deviation of the outputs
STEPS = 65535  # between the lowest and the highest answer: fine enough, and two bytes a number


class Packed(BaseModel):
    """One output's answers to all inputs."""

    low: float
    high: float
    answers: str  # base64 of uint16, 8 rows: 0 stands for low, 65535 for high

    @classmethod
    def of(cls, answers: np.ndarray) -> "Packed":
        """Return answers (8, …) as text."""
        low, high = float(answers.min()), float(answers.max())
        steps = np.rint((answers - low) * (STEPS / ((high - low) or 1))).astype("<u2")
        text = base64.b64encode(steps.tobytes()).decode("ascii")
        return cls(low=low, high=high, answers=text)

    def values(self) -> np.ndarray:
        """Return float64 (8, numbers)."""
        return unpacked(self.low, self.high, self.answers)


class Reference(BaseModel):
    """The answers of one file in one runtime."""

    judged_on: str  # instruction set, and the runtime's version
    outputs: dict[str, Packed]  # by name

    @classmethod
    def of(cls, answers: Outputs, judged_on: str) -> "Reference":
        """Return the outputs for the reference inputs as text."""
        packed = {name: Packed.of(given) for name, given in answers.items()}
        return cls(judged_on=judged_on, outputs=packed)

    def values(self, spec: InputSpec) -> dict[str, np.ndarray]:
        """Return the outputs, float64 (8, …).

        Raises:
            ValueError: other outputs than the spec's, or other shapes.
        """
        shapes = spec.outputs
        if shapes.keys() != self.outputs.keys():
            raise ValueError(f"outputs {', '.join(self.outputs)} for {', '.join(shapes)}")
        return {
            name: packed.values().reshape(COUNT, *shapes[name])
            for name, packed in self.outputs.items()
        }


def unpacked(low: float, high: float, answers: str) -> np.ndarray:
    """Return one output's answers, float64 (8, numbers), from the fields of `Packed`."""
    steps = np.frombuffer(base64.b64decode(answers), "<u2").reshape(COUNT, -1)
    return low + steps * ((high - low) / STEPS)


def reference_inputs(spec: InputSpec) -> np.ndarray:
    """float32 (8, 3, height, width), prepared: noise, each smoothed more than the one before.

    In integers and from a generator that NumPy promises never to change: the same everywhere.
    """
    shape = (COUNT, *spec.size, spec.shape[0])
    noise = np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8)
    made = []
    for i, image in enumerate(noise.astype(np.int64)):
        for axis in (0, 1):
            image = sum(np.roll(image, k, axis) for k in range(4 * i + 3))
        low, high = image.min(), image.max()
        made.append(((image - low) * 255 // max(high - low, 1)).astype(np.uint8))
    return normalise(np.stack(made), spec)


def answers(session: Session, spec: InputSpec) -> dict[str, np.ndarray]:
    """Return the outputs, float32 (8, …), computed one input at a time, as in deployment."""
    return joined([infer(session, x[None], spec) for x in reference_inputs(spec)])


def write_reference(path: Path, spec: InputSpec, here: Machine) -> None:
    """Puts into a deployed file what it answers on this machine, in every runtime that runs it."""
    found: dict[str, Reference] = {}
    for runtime in discover():
        try:
            given = answers(open_session(path, runtime, threads=1), spec)
        except UserError:  # not installed, or nothing that this runtime or CPU can run
            continue
        if all(np.isfinite(output).all() for output in given.values()):
            found[runtime] = Reference.of(given, _place(here, runtime))
    text = json.dumps({runtime: reference.model_dump() for runtime, reference in found.items()})
    write_metadata(path, REFERENCE_KEY, text)


def reference_of(session: Session, runtime: str) -> Reference | None:
    """What the session's file answered in this runtime; None where it does not say.

    Raises:
        UserError: it says so in a way that cannot be read.
    """
    if session.reference is None:
        return None
    try:
        stored = json.loads(session.reference).get(runtime)
        if stored is None or session.spec is None:
            return None
        spec = InputSpec.model_validate_json(session.spec)
        if "answers" in stored:  # of the only output, as it was written before there were names
            (only,) = spec.outputs
            stored = {"judged_on": stored.pop("judged_on"), "outputs": {only: stored}}
        reference = Reference.model_validate(stored)
        reference.values(spec)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"The file's reference answers (metadata {REFERENCE_KEY!r}) are damaged: export the "
            "model again."
        ) from error
    return reference


def difference_here(session: Session, runtime: str, here: Machine) -> str | None:
    """How this machine answers otherwise than the one that the file was judged on, if it does.

    None too where the file does not say what it answered there.
    """
    reference = reference_of(session, runtime)
    if reference is None or session.spec is None:
        return None
    spec = InputSpec.model_validate_json(session.spec)
    stored, now = reference.values(spec), answers(session, spec)
    said = differences(stored, now, task_of(spec).changed_answers(stored, now))
    if said is None:
        return None
    return (
        f"This machine ({_place(here, runtime)}) answers otherwise than the one this file was "
        f"judged on ({reference.judged_on}): {said}. int8 made with portable: true answers alike "
        "on all; any other file is best judged anew, on this machine."
    )


def differences(stored: Outputs, now: Outputs, others: int) -> str | None:
    """Return how outputs (8, …) differ, where they do: in the answer, or in the numbers.

    Numbers that are a step of `Packed` apart at most are the same ones: that another answer is
    nearest by them, in a tie, says nothing of this machine.

    Args:
        others: how many of the inputs get another answer.
    """
    shares = [np.abs(now[name] - x).max() / (x.std() + 1e-12) for name, x in stored.items()]
    share = np.max(shares)  # not a number where any of them is none
    if not others and share <= TOLERANCE:
        return None
    if all(np.abs(now[name] - x).max() <= np.ptp(x) / STEPS for name, x in stored.items()):
        return None
    best = f"{others} of {COUNT} reference inputs get another answer, " if others else ""
    return f"{best}outputs differ by {100 * share:.3g} % of their standard deviation"


def _place(here: Machine, runtime: str) -> str:
    package = package_of(runtime)
    return f"{here.instruction_set}, {package} {version(package)}"
