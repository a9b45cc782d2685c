"""The last picks on images that no decision was made by."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from compress.analysis.choose import Choice
from compress.data.input_spec import InputSpec
from compress.export.artifact import spec_of
from compress.measure.evaluate import chosen, evaluate_file, labelled
from compress.recipe.schema import Recipe
from compress.results.schema import Accuracy, Result
from compress.results.search import Proof
from compress.tasks.differences import lost

MOST = 4  # candidates that are measured at the end


def last_picks(choice: Choice) -> list[Result]:
    """Return the rows to prove: the pick and what stands beside it, or what comes nearest."""
    beside = [choice.picked, choice.next_faster, choice.next_more_accurate, choice.runner_up]
    if choice.picked is None:
        beside = [choice.nearest_miss, *(x.row for x in choice.relaxations)]
    found: dict[str, Result] = {}
    for row in beside:
        if row is not None and row.role == "candidate":
            found.setdefault(row.candidate, row)
    return list(found.values())[:MOST]


def proofs(
    searched: Sequence[Result], kept: Sequence[Result], names: Sequence[str]
) -> Iterator[Proof]:
    """Yield what the kept images say of each pick, beside what the searched ones said.

    Args:
        searched, kept: rows of the same files by the two parts of the validation images.
        names: candidates.
    """
    before = {row.key: row.accuracy for row in searched}
    for row in kept:
        if row.candidate in names and row.key in before:
            yield _proof(row, row.accuracy, before[row.key], "the images kept for this")


def proofs_with(
    folder: Path,
    searched: Sequence[Result],
    names: Sequence[str],
    out: Path,
    recipe: Recipe,
) -> Iterator[Proof]:
    """Yield what images of the user's own say of each pick, in the runtime of its row.

    Args:
        folder: labelled images, which neither training nor the search has seen.
        searched: rows by the searched images, the teacher's too, whose files lie below `out`.
        recipe: says how things are annotated, and how near is right.

    Raises:
        UserError: images that cannot be read, or of other classes.
    """
    teachers = {row.artifact.runtime: row for row in searched if row.role == "teacher"}
    for row in searched:
        if row.candidate not in names or row.dropped is not None:
            continue
        teacher = teachers[row.artifact.runtime]
        theirs, own = (
            evaluate_file(
                out / each.artifact.path,
                folder,
                split="all",
                columns=_columns(recipe),
                tolerance=recipe.measure.keypoint_tolerance,
                runtime=each.artifact.runtime,
            ).accuracy
            for each in (teacher, row)
        )
        drop, _ = lost(theirs, own)
        own = own.model_copy(update={"top1_drop": drop})
        yield _proof(row, own, row.accuracy, f"the images of {folder.name}")


def check_images(folder: Path, asked: InputSpec | Path, recipe: Recipe) -> None:
    """Refuse images that could not prove anything, before the time is spent.

    Args:
        asked: what the picks will answer; or a deployed file that says so.

    Raises:
        UserError: none there, or annotations of other things.
    """
    spec = spec_of(asked) if isinstance(asked, Path) else asked
    chosen(labelled(spec, folder, _columns(recipe), lambda _: None), "all")


def _columns(recipe: Recipe) -> Sequence[str]:
    columns = recipe.data.point_columns
    return () if columns is None else columns.columns


def _proof(row: Result, proven: Accuracy, before: Accuracy, on: str) -> Proof:
    return Proof(
        candidate=row.candidate,
        runtime=row.artifact.runtime,
        on=on,
        images=proven.images,
        accuracy=proven.top1,
        drop=proven.top1_drop,
        searched_images=before.images,
        searched_accuracy=before.top1,
        searched_drop=before.top1_drop,
    )
