"""What an exported cascade's `predict.py` does; that script is made of this text.

Nothing but `bundle.py` asks for it: here, `compress predict` does the same.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from compress.cascade.answer import Network, find, told
from compress.export.reference_answers import differences, reference_inputs, unpacked
from compress.runtimes import Session
from compress.utils.errors import UserError
from compress.utils.files import inside

OpenModel = Callable[[Path], Session]


def main(folder: Path, open_model: OpenModel, runtime: str) -> int:
    """Say what is on the photographs that are named behind the script; return the exit code.

    Args:
        folder: with pipeline.json and the models.
        runtime: that they were judged in.
    """
    try:
        networks, min_probability = load(folder, open_model)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for network in networks:
        check(network, runtime)
    failed = False
    for path in sys.argv[1:]:
        print(path)
        try:
            found = find(Path(path).read_bytes(), networks)
        except (UserError, OSError) as error:
            print(f"  {error}", file=sys.stderr)
            failed = True
            continue
        for line in told(found, networks[-1].spec.classes, min_probability):
            print(f"  {line}")
    return 2 if failed else 0


def load(folder: Path, open_model: OpenModel) -> tuple[list[Network], float]:
    """Return the networks, in their order, and how sure the last must be to give a name.

    Raises:
        UserError: pipeline.json cannot be read, or a model lies elsewhere or cannot be loaded.
    """
    file = folder / "pipeline.json"
    try:
        cascade = json.loads(file.read_text("utf-8"))
        networks = [_network(folder, stage, open_model) for stage in cascade["stages"]]
        return networks, cascade["min_probability"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read ({error!r}): export the cascade again.") from error


def _network(folder: Path, described: Any, open_model: OpenModel) -> Network:
    """Load a stage's model; the file itself says how it is fed."""
    path = inside(folder, described["model"])
    if path is None:
        raise UserError(f"{described['name']}'s model lies outside of {folder}.")
    session = open_model(path)
    fed: Any = SimpleNamespace(**{"channels": "rgb"} | json.loads(session.spec or ""))
    fed.size = (fed.height, fed.width)
    fed.shape = (1 if fed.channels == "grey" else 3, *fed.size)
    usual = dict.fromkeys(("crop", "warp", "least_photograph_px"))
    stage: Any = SimpleNamespace(**usual | described)
    if stage.crop is not None:
        stage.crop = SimpleNamespace(**stage.crop)
    return Network(stage, fed, session)


def check(network: Network, runtime: str) -> None:
    """Say on stderr where this machine answers otherwise than the one it was judged on."""
    kept = json.loads(network.session.reference or "{}").get(runtime)
    if kept is None:
        return
    now = np.concatenate([network.answers(x[None]) for x in reference_inputs(network.spec)])
    (packed,) = kept.get("outputs", {"": kept}).values()  # once there was one, without a name
    stored = unpacked(packed["low"], packed["high"], packed["answers"]).reshape(now.shape)
    others = 0
    if network.spec.classes:
        best = stored[np.arange(len(now)), now.argmax(1)]
        others = int((best < stored.max(1)).sum())
    said = differences({"": stored}, {"": now}, others)
    if said is not None:
        print(
            f"This machine answers otherwise than the one that {network.stage.name} was judged on "
            f"({kept['judged_on']}): {said}. Judge it anew here, or make it again: int8 made with "
            "portable: true answers alike on all machines.",
            file=sys.stderr,
        )
