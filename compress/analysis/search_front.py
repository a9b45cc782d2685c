"""The front of a search, as it was at any moment."""

from compress.analysis.pareto import pareto_front
from compress.results.search import Search


def front_after(search: Search, seconds: float) -> list[tuple[str, float, float]]:
    """Return the front of what was judged by then: candidates, speedups, accuracies in [0, 1].

    Args:
        seconds: of the search's own time.
    """
    known = []
    for trial in search.trials:
        done = [piece for piece in trial.pieces if piece.begun_s + piece.seconds <= seconds]
        accuracies = [piece.accuracy for piece in done if piece.accuracy is not None]
        speedups = [piece.speedup for piece in done if piece.speedup is not None]
        if accuracies and speedups:
            known.append((trial.candidate, speedups[-1], accuracies[-1]))
    front = pareto_front([(1 / speedup, accuracy) for _, speedup, accuracy in known])
    return [known[i] for i in front]
