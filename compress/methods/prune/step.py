"""Structured pruning: whole channels go, so that the network is smaller on any runtime.

The widths are allocated by measured time, by multiply-accumulates, or by one ratio.
"""

from typing import TYPE_CHECKING, Any

from compress.methods.base import Method
from compress.methods.prune.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor, nn

    from compress.data.input_spec import InputSpec
    from compress.methods.context import Context, StepInputs
    from compress.methods.decided import Decided
    from compress.methods.prune.channel_groups import PrunableNetwork
    from compress.methods.prune.width_search import NetworkTimes
    from compress.models.candidate import Candidate
    from compress.results.schema import Decision

PROCESSES, ROUNDS = 3, 15  # for each measurement of a whole network
BATCH = 8  # images that importance is computed on at once


class Prune(Method[Settings]):
    """Removes whole channels, so that the network is smaller on any runtime."""

    name = "prune"
    settings = Settings
    version = 1
    checked = {"ignore"}

    def check(
        self,
        settings: Settings,
        before: "Callable[[], nn.Module | None]",
        build: "Callable[[str, dict[str, Any]], nn.Module]",
        spec: "InputSpec",
    ) -> None:
        """Refuses a network that cannot be pruned, before it is trained.

        Args:
            before: makes the network that the step starts from; None where it is not known yet.
            spec: its input.

        Raises:
            UserError: what stands in the way.
        """
        from compress.methods.prune.channel_groups import PrunableNetwork
        from compress.utils.errors import UserError

        network = before()
        if network is None:
            return
        try:
            PrunableNetwork(network, spec, settings.ignore)
        except UserError as error:
            raise UserError(f"prune: {error}") from error

    def decides_by_times(self, settings: Settings) -> bool:
        """Whether the widths depend on what is measured on this machine."""
        return settings.speedup is not None

    def decide(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Decided":
        """Ranks the channels and finds the widths; decides which channels stay."""
        from dataclasses import replace

        import numpy as np

        from compress.methods.decided import Decided
        from compress.methods.prune.allocation import WidthOptions
        from compress.methods.prune.channel_groups import PrunableNetwork, most_important
        from compress.methods.prune.width_search import NetworkTimes, Search
        from compress.models.candidate import Candidate
        from compress.results.schema import StepReport

        before = Candidate.load(inputs.previous, context.allowed)
        prunable = PrunableNetwork(before.model, before.spec, settings.ignore)
        worth = _importance(prunable, inputs, settings, context, before)
        choices = [
            WidthOptions.of(np.asarray(w), settings.round_to, group.blocks)
            for w, group in zip(worth, prunable.groups, strict=True)
        ]
        search = Search(prunable, choices, settings.scope == "uniform", settings.round_to)
        times = None
        if settings.ratio is not None:
            found = search.to_ratio(settings.ratio)
        elif settings.macs is not None:
            found = search.to_macs(settings.macs)
        else:
            assert settings.speedup is not None

            def measure(widths: "Sequence[int]") -> float:
                narrow = prunable.narrow(most_important(prunable.groups, worth, widths))
                return _speedup(replace(before, model=narrow), inputs, context)

            table = context.layer_times()
            context.progress.note(f"times of layers are kept in {table.path.name}")
            times = NetworkTimes(prunable, table, context.progress.advance)
            found = search.to_speedup(settings.speedup, times, measure, context.progress.note)
        notes = list(found.notes)
        if prunable.grouped:
            notes.append(
                f"prune: {len(prunable.grouped)} grouped convolutions keep their width, and so do "
                "the layers before and behind them."
            )
        if prunable.bound:
            notes.append(
                f"prune: {', '.join(prunable.bound)} and what is added to them keep their width, "
                "since a group norm sees them beside other channels, or one by one."
            )
        report = StepReport(
            step="prune",
            target=found.target,
            decisions=_decisions(prunable, found.widths, times),
            notes=notes,
        )
        roots = [group.root for group in prunable.groups]
        stay = most_important(prunable.groups, worth, found.widths)
        kept = dict(zip(roots, stay, strict=True))
        return Decided({"kept_channels": kept}, report)

    def apply(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
        """Narrows the candidate as decided; its training is the next step's (`distill`)."""
        from compress.methods.prune.channel_groups import PrunableNetwork
        from compress.models.candidate import Candidate

        before = Candidate.load(inputs.previous, context.allowed)
        prunable = PrunableNetwork(before.model, before.spec, settings.ignore)
        assert inputs.decided is not None
        kept = inputs.decided["kept_channels"]
        rule = settings.the_one_of("ratio", "macs", "speedup")
        asked = f"{rule} {getattr(settings, rule):g}"
        return before.after(
            f"prune {asked} ({settings.importance}, {settings.scope})",
            model=prunable.narrow([kept[group.root] for group in prunable.groups]),
        )


def _importance(
    prunable: "PrunableNetwork",
    inputs: "StepInputs",
    settings: Settings,
    context: "Context",
    before: "Candidate",
) -> "list[Tensor]":
    from compress.data.input_spec import normalise
    from compress.methods.prune.importance import bn_scale, magnitude, taylor
    from compress.tasks import task_of
    from compress.training.loop import autocast, named_floats
    from compress.utils.seeding import generator, torch_seed

    if settings.importance == "magnitude":
        return magnitude(prunable)
    if settings.importance == "bn_scale":
        return bn_scale(prunable)

    import torch

    task = task_of(before.spec)
    training = inputs.data.indices("train")
    rng = generator(context.seed, "pictures that importance looks at")
    chosen = rng.permutation(training)[: settings.images]
    if len(chosen) < settings.images:
        context.progress.note(
            f"importance looks at all {len(chosen)} training images: {settings.images} were "
            "asked for"
        )

    def batches() -> "Iterator[Tensor]":
        done = 0
        for images in inputs.pixels.batches(chosen, before.spec, BATCH):
            yield torch.from_numpy(normalise(images, before.spec)).to(context.device)
            done += len(images)
            context.progress.advance(done, len(chosen))

    with torch_seed(context.seed, "labels drawn for importance"):
        return taylor(
            prunable,
            batches(),
            lambda: autocast(context.device, settings.precision),
            lambda given: task.drawn_loss(named_floats(given, task)),
        )


def _speedup(candidate: "Candidate", inputs: "StepInputs", context: "Context") -> float:
    """Of the candidate's export over the teacher's file."""
    from compress.export.onnx import export_onnx
    from compress.measure.processes import speedup_over

    path = inputs.folder / ".trial.onnx"
    try:
        export_onnx(candidate, path)
        return speedup_over(
            inputs.teacher_file,
            path,
            context.threads,
            PROCESSES,
            ROUNDS,
            context.allowed,
            context.progress.note,
        )
    finally:
        path.unlink(missing_ok=True)


def _decisions(
    prunable: "PrunableNetwork", widths: list[int], times: "NetworkTimes | None"
) -> "list[Decision]":
    """What became of each group; with the times of its first layer where they were looked at."""
    from compress.results.schema import Decision

    before = times.layers([group.channels for group in prunable.groups]) if times else {}
    after = times.layers(widths) if times else {}
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
