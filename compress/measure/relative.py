"""What every row loses and gains against the teacher and its control, paired."""

from compress.measure.latency import speedup
from compress.metrics.accuracy import agreement
from compress.results.schema import Accuracy, Result, RowKey
from compress.tasks.differences import lost


def with_comparisons(results: list[Result]) -> list[Result]:
    """Adds what every candidate loses and gains against the teacher in its runtime, paired."""
    teachers = {r.artifact.runtime: r for r in results if r.role == "teacher"}
    controls = {RowKey(r.control_of, r.artifact.runtime): r for r in results if r.control_of}
    compared = []
    for result in results:
        reference = teachers[result.artifact.runtime]
        served = teachers.get("torch")
        control = controls.get(result.key)
        update: dict[str, object] = {}
        if result.role != "teacher":
            if result.training == reference.training:  # inherited: the candidate was not trained
                update["training"] = None
            update["accuracy"] = _judged_against(reference.accuracy, result.accuracy)
        if control is not None:
            update["gain_over_control"], _ = lost(result.accuracy, control.accuracy)
        if result is not reference:
            update["speedup"] = _against(reference, result, 0)
            update["throughput_speedup"] = _against(reference, result, -1)
        if served is not None and result is not served:
            update["speedup_as_served"] = _against(served, result, 0)
        compared.append(result.model_copy(update=update))
    return compared


def _judged_against(reference: Accuracy, accuracy: Accuracy) -> Accuracy:
    drop, p_value = lost(reference, accuracy)
    return accuracy.model_copy(
        update={
            "top1_drop": drop,
            "drop_p_value": p_value,
            "agreement": agreement(reference.answers, accuracy.answers),
        }
    )


def _against(reference: Result, result: Result, which: int) -> object:
    return speedup(
        reference.candidate,
        reference.artifact.runtime,
        reference.latency[which],
        result.latency[which],
    )
