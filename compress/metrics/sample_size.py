"""How many images a claim of a drop needs: sample sizes of the paired test, in plain Python.

A candidate and its teacher answer the same n images. Of q of them, a share, just one is right: the
two disagree. If the candidate loses d, the difference that is measured has variance (q - d²) / n
(Connor 1987, Biometrics 43:207-211), and by the normal approximation it is shown, one-sided with
probability c, that at most m is lost where

    (m - d) · √(n / (q - d²)) ≥ z(c)

with z the quantile of the normal distribution. It is the test for non-inferiority of Lu & Bean
(1995, Statistics in Medicine 14:1831-1839), planned for the drop seen to be d: if d is the true
one, half of all sets of n images show a larger drop, and then the claim is not shown.

Of scores instead of right answers, q is the mean square of one image's difference
(`compress.tasks.differences.paired_spread`).
"""

from math import ceil, sqrt
from statistics import NormalDist

CONFIDENCE = 0.95


def images_needed(
    max_drop: float, disagreement: float, confidence: float = CONFIDENCE, drop: float = 0.0
) -> int | None:
    """Return the fewest images that show a drop of at most `max_drop` if `drop` is what is seen.

    n = z(c)² (q - d²) / (m - d)², rounded up, at least 1.

    Args:
        max_drop: m, the claim, a fraction in [0, 1].
        disagreement: q, the share of images on which just one of the two is right.
        confidence: c, the probability that is to be reached, in [0.5, 1).
        drop: d; 0 is that of a candidate as accurate as its teacher.

    Returns:
        None where no number of images does: the drop is not below the claim.
    """
    if drop >= max_drop:
        return None
    deviations = NormalDist().inv_cdf(confidence) / (max_drop - drop)
    return max(1, ceil(deviations**2 * (disagreement - drop**2)))


def highest_confidence(max_drop: float, disagreement: float, images: int) -> float:
    """Return how sure these images make it that at most `max_drop` is lost if no drop is seen.

    The other way round: Φ(m √(n / q)), in [0.5, 1].

    Args:
        max_drop, disagreement: as of `images_needed`.
    """
    if disagreement <= 0:
        return 1.0 if max_drop > 0 else 0.5
    return NormalDist().cdf(max_drop * sqrt(images / disagreement))


def largest_disagreement(max_drop: float, images: int, confidence: float = CONFIDENCE) -> float:
    """Return on what share of the images the two may disagree for these to be enough.

    q = n (m / z(c))², at most 1, if no drop is seen.

    Args:
        max_drop, confidence: as of `images_needed`; the confidence above 0.5.
    """
    return min(1.0, images * (max_drop / NormalDist().inv_cdf(confidence)) ** 2)
