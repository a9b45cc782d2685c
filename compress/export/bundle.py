"""A folder that can be deployed as it is: the model, what it expects, a script, a model card."""

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, DictLoader, Environment, PackageLoader, StrictUndefined

from compress.data.input_spec import GREY, InputSpec
from compress.export.artifact import files_of, sha256_of, spec_of
from compress.export.model_card import card, network_facts
from compress.export.reference_answers import reference_of
from compress.models.sessions import open_session
from compress.results.schema import Result
from compress.runtimes import runtime_for, runtime_named
from compress.tasks import task_of
from compress.tasks.base import Task
from compress.utils.errors import UserError

REQUIREMENTS = "{runtime}\nnumpy>=2.0\npillow>=10\n"


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """Gives a temporary folder; what is in it when all went right is moved to `folder`.

    Raises:
        UserError: `folder` holds something, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: name a new one with --export.")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=folder) as temporary:
        made = Path(temporary)
        yield made
        for file in made.iterdir():
            file.replace(folder / file.name)


def write_bundle(row: Result, model: Path, why: str, folder: Path) -> None:
    """Writes the folder; nothing is left in it unless all is right.

    Args:
        model: the file that the row was measured with.
        why: a sentence for the card.

    Raises:
        UserError: the folder is not empty, or the file is not the one that was measured.
    """
    with filling(folder) as made:
        copy = copied(row, model, made / f"model{model.suffix}")
        if sha256_of(copy) != row.artifact.sha256:
            raise UserError(f"{model} is not the file that was measured. {remedy(row, model)}")
        spec = spec_of(copy)
        task = task_of(spec)
        runtime = runtime_named(row.artifact.runtime)
        session = open_session(copy, runtime_for(copy), threads=1)
        reference = reference_of(session, row.artifact.runtime)
        texts = {
            **({"reference.json": _json(reference.model_dump())} if reference else {}),
            **{name: _json(content) for name, content in task.beside_script().items()},
            "model.json": _json(_facts(row, spec, copy.name)),
            "predict.py": render(
                "predict.py",
                task,
                runtime.script(),
                package=runtime.package,
                reference=reference,
                places=_places(session.outputs, spec),
                grey=GREY[0] if spec.channels == "grey" else GREY,
                channels=spec.shape[0],
                mode="L" if spec.channels == "grey" else "RGB",
                blue_first=spec.channels == "bgr",
                shape=_shape(spec),
                spec=spec,
            ),
            "requirements.txt": requirements(row),
            "README.md": render("README.md", **card(row, why, network_facts(spec), task.always)),
        }
        for name, text in texts.items():
            (made / name).write_text(text, encoding="utf-8")


def copied(row: Result, model: Path, target: Path) -> Path:
    """Copies a model with all its files; returns `target`.

    Raises:
        UserError: one of them is missing.
    """
    for source, copy in zip(files_of(model), files_of(target), strict=True):
        if not source.is_file():
            raise UserError(f"{source} is missing. {remedy(row, model)}")
        shutil.copyfile(source, copy)
    return target


def _places(outputs: Sequence[str], spec: InputSpec) -> dict[str, int]:
    """Return where in a file's outputs the task's are: by name, or else in its order."""
    named = set(spec.outputs) <= set(outputs)
    order = list(outputs if named else spec.outputs)
    return {name: order.index(name) for name in spec.outputs}


def _shape(spec: InputSpec) -> str:
    """Return the shape of what the script feeds, as code."""
    channels, *_ = spec.shape
    last = spec.layout == "nhwc"
    return f"(1, height, width, {channels})" if last else f"(1, {channels}, height, width)"


def remedy(row: Result, model: Path) -> str:
    """How to get the file back: a run makes nothing anew whose folder is there."""
    return f"Remove {model.parent} where it exists, and make it again: {row.command}"


def requirements(row: Result) -> str:
    """What to install: the runtime in the version that was measured.

    Results are somebody's text, and pip takes more than names.
    """
    package = runtime_named(row.artifact.runtime).package
    version = row.machine.versions.get(package, "")
    known = re.fullmatch(r"[\w.+-]+", version)
    return REQUIREMENTS.format(runtime=f"{package}=={version}" if known else package)


def _facts(row: Result, spec: InputSpec, file: str) -> dict[str, Any]:
    """Everything that predict.py must know, as numbers."""
    facts = {"file": file, "sha256": row.artifact.sha256, "runtime": row.artifact.runtime}
    facts |= spec.model_dump(exclude=set(task_of(spec).unused_in_script))
    threads = row.at_smallest_batch.threads
    return facts | runtime_named(row.artifact.runtime).facts(threads)


def render(name: str, task: Task[Any] | None = None, loading: str = "", **values: Any) -> str:
    """Return the text of a template.

    Args:
        task: whose part of a script is included, if any.
        loading: lines of a script, the runtime's own, that load the model.
    """
    environment = Environment(  # text, not HTML: the card's values are escaped for Markdown
        loader=ChoiceLoader(
            [
                PackageLoader("compress.export", "templates"),
                DictLoader({"task": task.script() if task else "", "runtime": loading}),
            ]
        ),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(f"{name}.j2").render(**values)


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
