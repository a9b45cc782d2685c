"""Measures the statistics of batch norms anew, on training images as a deployed file sees them."""

from typing import TYPE_CHECKING, Any

from compress.methods.base import Method
from compress.methods.update_bn.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from compress.data.input_spec import InputSpec
    from compress.methods.context import Context, StepInputs
    from compress.models.candidate import Candidate

BATCH = 64  # images whose mean and variance are taken at once


class UpdateBN(Method[Settings]):
    """Measures the statistics of batch norms anew; no weight is trained.

    While a network is trained they follow augmented images, which are blurred, turned and zoomed.
    Deployed, it sees images as they are (Touvron et al. 2019, arXiv:1906.06423; Wu & Johnson 2021,
    arXiv:2105.07576). After pruning alone they are those of another network (Li et al. 2020,
    arXiv:2007.02491).
    """

    name = "update_bn"
    settings = Settings

    def check(
        self,
        settings: Settings,
        before: "Callable[[], nn.Module | None]",
        build: "Callable[[str, dict[str, Any]], nn.Module]",
        spec: "InputSpec",
    ) -> None:
        """Refuse a network without batch norms.

        Raises:
            UserError: it has none.
        """
        network = before()
        if network is not None:
            _refuse_without_norms(network)

    def apply(self, inputs: "StepInputs", settings: Settings, context: "Context") -> "Candidate":
        """Return the candidate with statistics of training images that are not augmented."""
        import numpy as np
        import torch

        from compress.data.input_spec import normalise
        from compress.methods.update_bn.statistics import measure
        from compress.models.candidate import Candidate
        from compress.utils.seeding import generator

        before = Candidate.load(inputs.previous, context.allowed)
        _refuse_without_norms(before.model)
        rng = generator(context.seed, "images that batch norms are measured on")
        chosen = rng.permutation(inputs.data.indices("train"))[: settings.images]
        # Even parts: a last batch of one image would have no variance.
        parts = np.array_split(chosen, -(-len(chosen) // BATCH))

        def batches() -> "Iterator[Tensor]":
            for number, part in enumerate(parts):
                images = normalise(inputs.pixels.of(part, before.spec), before.spec)
                yield torch.from_numpy(images).to(context.device)
                context.progress.advance(number + 1, len(parts))

        measure(before.model.to(context.device), batches())
        before.model.cpu()
        return before.after(f"batch norms measured on {len(chosen)} training images")


def _refuse_without_norms(network: "nn.Module") -> None:
    from compress.methods.update_bn.statistics import norms_of
    from compress.utils.errors import UserError

    if not norms_of(network):
        raise UserError("update_bn: this network has no batch norms: remove the step.")
