"""Structured pruning: whole channels go, so that the network is smaller on any runtime.

The widths are allocated by measured time, by multiply-accumulates, or by one ratio.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from compress.training.settings import RecipeModel

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from compress.allocation import Choices, Cost
    from compress.candidate import Candidate
    from compress.context import Context, StepInputs
    from compress.pruning import Prunable
    from compress.results import StepReport

VERSION = 1
MEASURES = True
TOLERANCE = 0.05  # of the speedup asked for
ATTEMPTS = 8
PROCESSES, ROUNDS = 3, 15  # for each measurement of a whole network


class Settings(RecipeModel):
    """What to aim at (one of ratio, macs, speedup), and which channels are worth most."""

    ratio: Annotated[float, Field(ge=0, lt=1)] | None = None  # share of the channels to remove
    macs: Annotated[float, Field(gt=0, le=1)] | None = None  # share of the MACs to keep
    speedup: Annotated[float, Field(ge=1)] | None = None  # against the teacher, onnxruntime float32
    importance: Literal["magnitude", "bn_scale", "taylor"] = "taylor"
    scope: Literal["global", "uniform"] = "global"  # uniform: the same share of every layer
    round_to: Annotated[int, Field(ge=1, le=256)] = 16  # runtimes compute in blocks of channels
    pictures: Annotated[int, Field(ge=1)] = 256  # that taylor looks at
    ignore: list[str] = []  # layers that keep their width; * and ? match

    @model_validator(mode="after")
    def _one_target(self) -> "Settings":
        given = [n for n in ("ratio", "macs", "speedup") if getattr(self, n) is not None]
        if len(given) != 1:
            found = f"not {' and '.join(given)}" if given else "none is given"
            raise ValueError(f"give exactly one of ratio, macs and speedup: {found}")
        return self


def apply(inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
    """Narrows the candidate; its training is the next step's business (`distill`)."""
    from dataclasses import replace

    import numpy as np

    from compress.allocation import Choices
    from compress.candidate import Candidate
    from compress.pruning import Prunable

    before = Candidate.load(inputs.previous, context.allowed)
    prunable = Prunable(before.model, before.spec, settings.ignore)
    worth = _importance(prunable, inputs, settings, context, before)
    choices = [Choices.of(np.asarray(w), settings.round_to) for w in worth]
    if settings.speedup is not None:
        widths, report = _to_speedup(prunable, worth, choices, inputs, settings, context, before)
    else:
        widths, report = _to_share(prunable, choices, settings)
    model = prunable.narrow(widths, worth)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    asked = next(
        f"{name} {getattr(settings, name):g}"
        for name in ("ratio", "macs", "speedup")
        if getattr(settings, name) is not None
    )
    lineage = f"prune {asked} ({settings.importance}, {settings.scope})"
    return replace(before.after(lineage, report), model=model)


def _importance(
    prunable: "Prunable",
    inputs: "StepInputs",
    settings: Settings,
    context: "Context",
    before: "Candidate",
) -> "list[Tensor]":
    from compress import pruning
    from compress.input_spec import preprocess
    from compress.seeding import generator, torch_seed
    from compress.training.loop import autocast

    if settings.importance == "magnitude":
        return pruning.magnitude(prunable)
    if settings.importance == "bn_scale":
        return pruning.bn_scale(prunable)

    import torch

    training = inputs.data.indices("train")
    rng = generator(context.seed, "pictures that importance looks at")
    chosen = rng.permutation(training)[: settings.pictures]
    if len(chosen) < settings.pictures:
        context.progress.note(
            f"importance looks at all {len(chosen)} training pictures: {settings.pictures} were "
            "asked for"
        )

    def batches():  # type: ignore[no-untyped-def]
        for start in range(0, len(chosen), BATCH):
            paths = inputs.data.paths(chosen[start : start + BATCH])
            yield torch.from_numpy(preprocess(paths, before.spec)).to(context.device)
            context.progress.advance(min(start + BATCH, len(chosen)), len(chosen))

    with torch_seed(context.seed, "labels drawn for importance"):
        return pruning.taylor(prunable, batches(), lambda: autocast(context.device, "bfloat16"))


BATCH = 8


def _to_share(
    prunable: "Prunable", choices: "list[Choices]", settings: Settings
) -> "tuple[list[int], StepReport]":
    """Widths for a ratio of channels or a share of the multiply-accumulates."""
    from compress.allocation import allocate, nearest, uniform
    from compress.errors import UserError
    from compress.results import StepReport, Target

    full = [group.channels for group in prunable.groups]

    def macs(widths: object) -> float:
        return sum(s.macs for s in prunable.shapes_at(widths).values())  # type: ignore[arg-type]

    def channels(widths: object) -> float:
        return sum(widths)  # type: ignore[call-overload, no-any-return]

    if settings.ratio is not None:
        keep = 1 - settings.ratio
        if settings.scope == "uniform":
            widths = [nearest(c, keep) for c in choices]
        else:
            lowest = channels([c.widths[0] for c in choices])
            widths = allocate(choices, channels, max(lowest, keep * sum(full)))
        reached = 1 - sum(widths) / sum(full)
        target = Target(quantity="ratio", asked=settings.ratio, predicted=reached)
    else:
        assert settings.macs is not None
        find = uniform if settings.scope == "uniform" else allocate
        try:
            widths = find(choices, macs, settings.macs * macs(full))
        except ValueError as error:
            least = macs([c.widths[0] for c in choices]) / macs(full)
            raise UserError(
                f"prune.macs: {settings.macs:g} cannot be reached, the least is {least:.2g} with "
                f"every layer at its narrowest. Raise macs, or lower round_to."
            ) from error
        target = Target(quantity="macs", asked=settings.macs, predicted=macs(widths) / macs(full))
    return widths, StepReport(
        step="prune", target=target, decisions=_decisions(prunable, widths, None)
    )


def _to_speedup(
    prunable: "Prunable",
    worth: "list[Tensor]",
    choices: "list[Choices]",
    inputs: "StepInputs",
    settings: Settings,
    context: "Context",
    before: "Candidate",
) -> "tuple[list[int], StepReport]":
    """Widths whose exported network is measured to be as fast as asked for.

    Layers are timed by their shapes; what a whole network takes beyond them (pooling, changes of
    layout) is only known by measuring it, so the allocation is corrected by that until it fits.
    """
    from dataclasses import replace

    from compress.allocation import allocate, uniform
    from compress.errors import UserError
    from compress.results import StepReport, Target

    assert settings.speedup is not None
    cost = _layer_times(prunable, context)
    find = uniform if settings.scope == "uniform" else allocate
    narrowest = [c.widths[0] for c in choices]
    full = [group.channels for group in prunable.groups]
    base = cost(full)
    aim = settings.speedup  # in predicted times: corrected after each measurement
    tried: dict[tuple[int, ...], float] = {}
    first: float | None = None
    for _ in range(ATTEMPTS):
        try:
            widths = find(choices, cost, base / aim)
        except ValueError:
            widths = narrowest
        if tuple(widths) in tried:
            break
        model = prunable.narrow(widths, worth)
        measured = _measure(replace(before, model=model), inputs, context)
        tried[tuple(widths)] = measured
        first = first or base / cost(widths)
        context.progress.note(
            f"asked {settings.speedup:g}×, layers predict {base / cost(widths):.2f}×, "
            f"the exported network measures {measured:.2f}×"
        )
        if abs(measured / settings.speedup - 1) <= TOLERANCE / 2:
            break
        if widths == narrowest and measured < settings.speedup * (1 - TOLERANCE):
            slowest = max(_per_layer(prunable, widths, context).items(), key=lambda x: x[1])
            raise UserError(
                f"prune.speedup: {settings.speedup:g} cannot be reached: with every layer at its "
                f"narrowest ({settings.round_to} channels, or as ignored) the network is "
                f"{measured:.2f} times faster than the teacher, and {slowest[0]} takes most of "
                "what is left. Lower speedup or round_to, ignore fewer layers, or distil into a "
                "smaller student."
            )
        aim *= settings.speedup / measured
    widths_, measured = min(tried.items(), key=lambda x: abs(x[1] / settings.speedup - 1))
    widths = list(widths_)
    notes = []
    if abs(measured / settings.speedup - 1) > TOLERANCE:
        notes.append(
            f"prune: {settings.speedup:g} times was asked for; {measured:.2f} is the nearest that "
            f"widths in steps of {settings.round_to} channels gave."
        )
    target = Target(quantity="speedup", asked=settings.speedup, predicted=first, measured=measured)
    decisions = _decisions(prunable, widths, context)
    return widths, StepReport(step="prune", target=target, decisions=decisions, notes=notes)


def _layer_times(prunable: "Prunable", context: "Context") -> "Cost":
    """Seconds of all layers at given widths, from the table of this machine."""
    from compress.measure.layers import interpolated

    times = context.layer_times()
    context.progress.note(f"times of layers are kept in {times.path.name}")
    functions = {}
    for number, (name, shape) in enumerate(prunable.shapes.items()):
        functions[name] = interpolated(times, shape)
        context.progress.advance(number + 1, len(prunable.shapes))

    def cost(widths: object) -> float:
        return sum(
            functions[name](shape.in_channels, shape.out_channels)
            for name, shape in prunable.shapes_at(widths).items()  # type: ignore[arg-type]
        )

    return cost


def _per_layer(prunable: "Prunable", widths: list[int], context: "Context") -> dict[str, float]:
    shapes = prunable.shapes_at(widths)
    times = context.layer_times()
    return dict(zip(shapes, times.many([(s,) for s in shapes.values()]), strict=True))


def _measure(candidate: "Candidate", inputs: "StepInputs", context: "Context") -> float:
    """Speedup of the candidate's export over the teacher's file."""
    from compress.export import export_onnx
    from compress.measure.whole import speedup_over

    path: Path = inputs.folder / ".trial.onnx"
    try:
        export_onnx(candidate, path)
        return speedup_over(inputs.teacher_file, path, context, PROCESSES, ROUNDS)
    finally:
        path.unlink(missing_ok=True)


def _decisions(prunable: "Prunable", widths: list[int], context: "Context | None"):  # type: ignore[no-untyped-def]
    from compress.results import Decision

    full = [group.channels for group in prunable.groups]
    before = _per_layer(prunable, full, context) if context else {}
    after = _per_layer(prunable, widths, context) if context else {}
    return [
        Decision(
            layer=group.root,
            change=group.describe(width),
            before_s=before.get(group.root),
            after_s=after.get(group.root),
            kept=True,
        )
        for group, width in zip(prunable.groups, widths, strict=True)
    ]
