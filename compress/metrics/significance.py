"""Whether two models differ in accuracy; in plain Python, so that a choice loads nothing heavy."""

from collections.abc import Sequence

from compress.results.schema import Result


def mcnemar(a: str, b: str) -> float:
    """The two-sided p-value of McNemar's exact test that two models are right equally often.

    Only images on which one is right and the other wrong tell them apart. If neither is better,
    each of these is the toss of a fair coin.

    Args:
        a, b: one '1' (right) or '0' per image, of the same images in the same order.

    Raises:
        ValueError: not the same number of images.
    """
    pairs = list(zip(a, b, strict=True))
    only_a, only_b = pairs.count(("1", "0")), pairs.count(("0", "1"))
    tosses = only_a + only_b
    tail, ways = 0, 1  # ways: to get this many heads; from one to the next is one product
    for heads in range(min(only_a, only_b) + 1):
        tail += ways
        ways = ways * (tosses - heads) // (heads + 1)
    return min(1.0, 2 * tail / 2**tosses)  # integers of any size: exact up to this division


def same_images(a: Result, b: Result) -> bool:
    """Whether two rows were judged on the same images, in the same order."""
    return a.data == b.data and a.accuracy.images == b.accuracy.images


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected for as many tests as there are p-values (Holm 1979, Scand. J. Stat. 6:65-70).

    Calling significant what stays below a level calls nothing so by chance, with a probability of
    one minus the level. In the order given, in [0, 1].
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, (len(p_values) - rank) * p_values[i])
        corrected[i] = min(1.0, largest)
    return corrected
