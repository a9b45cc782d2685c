"""Where a row's time goes, layer by layer."""

from compress.results.schema import Result
from compress.utils import units
from compress.utils.text_table import TextTable


def layer_table(row: Result) -> TextTable:
    """Return every layer of a row's file in the order of execution; the row has some."""
    whole_s = sum(layer.seconds for layer in row.layers)
    return TextTable(
        f"Layer by layer in {row.artifact.runtime}",
        f"Kernels as the runtime runs them, at batch 1: {units.ms(whole_s)} ms together, means "
        "over the fastest quarter of the calls, freed from what measuring them costs. The row's "
        "own time is the median over several processes, and holds what is between the layers.",
        ["layer", "operation", "precision", "ms", "share %", "MACs", "GMAC/s"],
        [
            [
                layer.name,
                layer.operation,
                layer.precision,
                units.ms(layer.seconds),
                units.percent(layer.seconds / whole_s if whole_s else None),
                units.count(layer.macs),
                units.significant(
                    layer.macs / layer.seconds / 1e9 if layer.macs and layer.seconds else None
                ),
            ]
            for layer in row.layers
        ],
        words=3,
    )
