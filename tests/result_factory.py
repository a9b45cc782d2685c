"""Made-up results: only what a test names differs from a plausible row."""

import hashlib

from compress.results.schema import (
    Accuracy,
    ArtifactFacts,
    Latency,
    Machine,
    PointErrors,
    Result,
    Role,
    SingleImageClasses,
    Speedup,
    StepReport,
    Training,
)
from compress.utils.interval import Interval


def around(value: float, half: float) -> Interval:
    """An interval of width 2 * half."""
    return Interval(value=value, low=value - half, high=value + half)


def machine(cpu: str = "Example CPU", cores: int = 2, onnxruntime: str = "1.20.0") -> Machine:
    return Machine(
        cpu=cpu,
        cpu_flags=["avx2", "avx512f", "avx512_vnni"],
        cores=cores,
        memory_bytes=8_000_000_000,
        system="Linux",
        python="3.11.0",
        versions={"onnxruntime": onnxruntime, "numpy": "2.0.0"},
    )


def result(
    candidate: str = "student",
    *,
    role: Role = "candidate",
    runtime: str = "onnxruntime",
    latency_s: float = 0.004,
    top1: float = 0.8,
    top1_half: float = 0.04,
    drop: float | None = 0.01,
    drop_half: float = 0.01,
    speedup: float | None = 10.0,
    served: float | None = 20.0,
    size_bytes: int = 5_000_000,
    macs: int | None = 146_000_000,
    recipe: str = "whales",
    run: str = "r1",
    data: str = "d1",
    measured_at: str = "2026-01-01T00:00:00Z",
    sha256: str | None = None,
    threads: int = 1,
    images: int = 400,
    notes: list[str] | None = None,
    lineage: list[str] | None = None,
    training: Training | None = None,
    control_of: str | None = None,
    control: str | None = None,
    single: SingleImageClasses | None = None,
    on: Machine | None = None,
    against: str = "teacher",
    correct: str | None = None,
    processes: int = 5,
    gain: Interval | None = None,
    steps: list[StepReport] | None = None,
    dropped: str | None = None,
) -> Result:
    """One row; a teacher has neither drop nor speedup."""
    teacher = role == "teacher"

    def ratio(x: float | None, reference: str) -> Speedup | None:
        if x is None or teacher:
            return None
        interval = Interval(value=x, low=0.96 * x, high=1.05 * x)
        return Speedup(against=against, runtime=reference, threads=threads, batch=1, ratio=interval)

    right = round(top1 * images)
    return Result(
        recipe=recipe,
        run=run,
        data=data,
        command=f"compress run recipes/{recipe}.yaml",
        measured_at=measured_at,
        candidate=candidate,
        role=role,
        control_of=control_of,
        control=control,
        lineage=lineage or [],
        artifact=ArtifactFacts.model_validate(
            {
                "path": f"{recipe}/{run}/{candidate}.onnx",
                "sha256": sha256
                or hashlib.sha256(repr((recipe, candidate, runtime)).encode()).hexdigest(),
                "runtime": runtime,
                "size_bytes": size_bytes,
                "parameters": size_bytes,
                "macs": macs,
                "input_height": 224,
                "input_width": 224,
            }
        ),
        accuracy=Accuracy(
            images=images,
            top1=around(top1, top1_half),
            top5=min(1.0, top1 + 0.1),
            log_loss=0.7,
            macro_recall=top1,
            single_image_classes=single,
            correct=correct or "1" * right + "0" * (images - right),
            top1_drop=None if teacher or drop is None else around(drop, drop_half),
        ),
        latency=[
            Latency(
                batch=batch,
                threads=threads,
                median_s=latency_s * batch**0.9,
                p95_s=1.1 * latency_s * batch**0.9,
                images_per_s=batch**0.1 / latency_s,
                samples_s=[[latency_s * batch**0.9] * 3] * processes,
            )
            for batch in (1, 32)
        ],
        peak_memory_bytes=90_000_000,
        speedup=ratio(speedup, runtime),
        throughput_speedup=ratio(speedup, runtime),
        speedup_as_served=ratio(served, "torch"),
        gain_over_control=gain,
        training=training,
        steps=steps or [],
        dropped=dropped,
        notes=notes or [],
        machine=on or machine(),
    )


def judged(row: Result, tolerance: float) -> Result:
    """The row as if its points were right within this distance."""
    points = PointErrors(tolerance=tolerance, median_distance=0.02, p90_distance=0.05)
    return row.model_copy(update={"accuracy": row.accuracy.model_copy(update={"points": points})})
