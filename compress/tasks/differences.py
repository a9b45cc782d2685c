"""What one network's answers lose against another's: exact where they are right or wrong."""

from compress.metrics import resampling
from compress.metrics.accuracy import newcombe, paired_drop
from compress.metrics.significance import mcnemar
from compress.results.schema import Accuracy
from compress.tasks import task_named
from compress.utils.interval import Interval
from compress.utils.seeding import generator


def statistic_of(accuracy: Accuracy) -> resampling.Statistic:
    """Return the statistic of the images' weights that a network is judged by.

    Raises:
        UserError: its task is not installed here.
    """
    if accuracy.correct:
        right = [int(each) for each in accuracy.correct]
        return lambda weights: weights @ right / weights.sum(1)
    task = task_named(accuracy.task)
    return lambda weights: task.statistic(accuracy.records, weights)


def lost(before: Accuracy, after: Accuracy) -> tuple[Interval, float]:
    """Return what is lost on the same images, paired, and the p-value of no difference.

    Right or wrong: the interval of `paired_drop` and McNemar's exact test; else by resampling.
    """
    if before.correct and after.correct:
        return paired_drop(before.correct, after.correct), mcnemar(before.correct, after.correct)
    return resampling.paired_loss(statistic_of(before), statistic_of(after), before.images)


def p_value(one: Accuracy, other: Accuracy) -> float:
    """Return the two-sided p-value that two networks are as good, on the same images."""
    if one.correct and other.correct:
        return mcnemar(one.correct, other.correct)
    return lost(one, other)[1]


def lost_on_others(before: Accuracy, after: Accuracy) -> tuple[Interval, float]:
    """Return what is lost on other images, and the p-value of no difference.

    Right or wrong: Newcombe's interval (1998, Statistics in Medicine 17:873-890, method 10) and
    Fisher's exact test; else by resampling.
    """
    if before.correct and after.correct:
        from scipy import stats  # here: it takes longer to load than a report to read

        table = [[x.correct.count("1"), x.correct.count("0")] for x in (before, after)]
        return newcombe(before.top1, after.top1), float(stats.fisher_exact(table).pvalue)
    return resampling.loss(statistic_of(before), before.images, statistic_of(after), after.images)


def paired_spread(teacher: Accuracy, candidate: Accuracy) -> float:
    """Return the mean square of what they differ by on one image, in [0, 1], to plan samples by.

    Right or wrong: the share of images on which they disagree. As in `paired_drop` half an image
    is put into each cell of their table: two that disagree on none of a few images may on others.
    Else by resampling, whose unseen images do the same.

    Args:
        teacher, candidate: of the same images.
    """
    if teacher.correct and candidate.correct:
        pairs = zip(teacher.correct, candidate.correct, strict=True)
        return (sum(one != other for one, other in pairs) + 1) / (teacher.images + 2)
    statistics, images = [statistic_of(teacher), statistic_of(candidate)], teacher.images
    rng = generator(0, "two statistics")
    drawn = resampling.draw_statistics(statistics, images, resampling.DRAWS, rng)
    lost = drawn[:, 0] - drawn[:, 1]
    return float(min(1.0, (images + resampling.UNSEEN) * lost.var() + lost.mean() ** 2))
