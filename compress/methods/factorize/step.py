"""Replaces layers by products of smaller ones where the runtime is measured to be faster for it."""

from typing import TYPE_CHECKING

from compress.methods.base import Method
from compress.methods.factorize.settings import Settings
from compress.models.layer_patterns import matching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from compress.measure.layer_times import LayerShape, LayerTimes
    from compress.methods.context import Context, StepInputs
    from compress.methods.decided import Decided
    from compress.models.candidate import Candidate
    from compress.models.factorized_layers import Form
    from compress.results.schema import Decision

RATIOS = (0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625)  # tried for a measured time


class Factorize(Method[Settings]):
    """Replaces layers by products of smaller ones where the runtime is faster for it."""

    name = "factorize"
    settings = Settings
    version = 1

    def decides_by_times(self, settings: Settings) -> bool:
        """Return True: whatever chooses the ranks, a layer is split only where that is faster."""
        return True

    def decide(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Decided":
        """Decide which of the named layers are split and at which ranks."""
        import torch

        from compress.measure.module_shapes import layer_shapes
        from compress.methods.decided import Decided
        from compress.models.candidate import Candidate
        from compress.results.schema import Decision, StepReport

        before = Candidate.load(inputs.previous, context.allowed)
        model, spec = before.model, before.spec
        example = torch.zeros(1, *spec.shape)
        shapes = layer_shapes(model, example)
        named = list(dict.fromkeys(matching(settings.layers, list(shapes))))
        forms = _forms(model, named, settings)
        times = context.layer_times()
        decisions, split = [], {}
        for number, (name, form) in enumerate(forms.items()):
            layer = model.get_submodule(name)
            fault = fault_when_split(model, name, form, example)
            if fault:
                reason = f"the network does not run when it is split ({fault}): it stays as it was"
                decisions.append(Decision(layer=name, change=form, kept=False, reason=reason))
            else:
                ranks, before_s, after_s = _ranks(layer, form, shapes[name], settings, times)
                decisions.append(_decision(name, form, ranks, before_s, after_s))
                if decisions[-1].kept:
                    split[name] = {"form": form, "ranks": ranks}
            context.progress.advance(number + 1, len(forms))
        notes = []
        if not split:
            notes.append("factorize: no layer is faster when split, so nothing was changed.")
        report = StepReport(step="factorize", decisions=decisions, notes=notes)
        return Decided({"split": split, "named": len(forms)}, report)

    def apply(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
        """Split the layers as decided; training is the next step's."""
        from compress.methods.factorize.decomposition import factorize
        from compress.models.candidate import Candidate
        from compress.models.factorized_layers import replace
        from compress.models.structure import Replaced

        before = Candidate.load(inputs.previous, context.allowed)
        assert inputs.decided is not None
        split = inputs.decided["split"]
        for name, how in split.items():
            layer = before.model.get_submodule(name)
            replace(before.model, name, factorize(layer, how["form"], how["ranks"]))
        rule = settings.the_one_of("energy", "ratio", "time")
        return before.after(
            f"factorize by {rule} {getattr(settings, rule):g} "
            f"({len(split)} of {inputs.decided['named']} layers)",
            replaced=[Replaced(name, how["form"]) for name, how in split.items()],
        )


def _forms(model: "nn.Module", named: "Sequence[str]", settings: Settings) -> "dict[str, Form]":
    """Return the form of each layer that can be split as the settings want it.

    Raises:
        UserError: there is none.
    """
    from compress.utils.errors import UserError

    found = {n: f for n in named if (f := _form(model.get_submodule(n), settings)) is not None}
    if not found:
        raise UserError(
            f"factorize: none of the {len(named)} layers named can be split as asked (svd for "
            "linear layers and 1 x 1 convolutions, tucker2 and spatial for ungrouped larger "
            "ones)."
        )
    return found


def _form(layer: "nn.Module", settings: Settings) -> "Form | None":
    """Return the form that the settings want for a layer, if it admits it."""
    from torch import nn

    from compress.models.factorized_layers import forms

    admitted = forms(layer)
    wanted = settings.linear if isinstance(layer, nn.Linear) else settings.conv
    if wanted == "none":
        return None
    if admitted == ("svd",):
        return "svd"
    return wanted if wanted in admitted else None


def fault_when_split(model: "nn.Module", name: str, form: "Form", example: "Tensor") -> str:
    """Return what stops the network when this layer is split, "" where nothing does.

    Some networks read a layer's weight themselves (nn.TransformerEncoderLayer in evaluation mode).

    Args:
        model: in evaluation mode; is left as it is.
        example: images, float32 (n, 3, height, width).
    """
    import torch

    from compress.models.factorized_layers import empty, full_ranks, replace

    layer = model.get_submodule(name)
    new = empty(layer, form, [1 for _ in full_ranks(layer, form)])
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.zero_()
        replace(model, name, new)
        try:
            model(example)
        except Exception as error:  # whatever somebody's network raises
            return f"{type(error).__name__}: {error}"
        finally:
            replace(model, name, layer)
    return ""


def _decision(
    name: str, form: "Form", ranks: tuple[int, ...], before_s: float, after_s: float
) -> "Decision":
    from compress.results.schema import Decision

    faster = after_s < before_s
    return Decision(
        layer=name,
        change=f"{form}, rank {' and '.join(map(str, ranks))}",
        before_s=before_s,
        after_s=after_s,
        kept=faster,
        reason="" if faster else "not faster: it stays as it was",
    )


def _ranks(
    layer: "nn.Module", form: "Form", shape: "LayerShape", settings: Settings, times: "LayerTimes"
) -> tuple[tuple[int, ...], float, float]:
    """Return ranks by the rule that was given; seconds of the layer before and after."""
    from compress.methods.factorize.decomposition import ranks_by_energy, ranks_by_ratio

    before_s = times.seconds((shape,))
    multiple = settings.round_to
    if settings.energy is not None:
        tried = [ranks_by_energy(layer, form, settings.energy, multiple)]
    elif settings.ratio is not None:
        tried = [ranks_by_ratio(layer, form, settings.ratio, multiple)]
    else:
        tried = [ranks_by_ratio(layer, form, ratio, multiple) for ratio in RATIOS]
    seconds = [times.seconds(_chain(layer, form, ranks, shape)) for ranks in tried]
    if settings.time is None:
        return tried[0], before_s, seconds[0]
    # The most weights whose measured time fits; where none does, the fastest.
    fitting = [i for i, s in enumerate(seconds) if s <= settings.time * before_s]
    best = fitting[0] if fitting else seconds.index(min(seconds))
    return tried[best], before_s, seconds[best]


def _chain(
    layer: "nn.Module", form: "Form", ranks: tuple[int, ...], shape: "LayerShape"
) -> "tuple[LayerShape, ...]":
    import torch

    from compress.measure.module_shapes import layer_shapes
    from compress.models.factorized_layers import empty

    maps = () if shape.is_linear else shape.input_size
    example = torch.zeros(1, shape.in_channels, *maps)
    return tuple(layer_shapes(empty(layer, form, ranks), example).values())
