"""What cached teacher outputs save, and that they cost no accuracy.

    compress run recipes/cached_or_online.yaml
    python benchmarks/distillation.py runs/cached_or_online

Reads the run's results: seconds per 1,000 images of each student's training (the median of its
epochs), and the paired difference in top-1 of the exported files. Timings are of one machine,
students trained one after another; train nothing else meanwhile.
"""

import sys
from pathlib import Path
from statistics import median

from compress.metrics.accuracy import paired_drop
from compress.results.file import read
from compress.results.schema import Result


def seconds_per_1000(row: Result) -> float:
    assert row.training is not None
    return 1000 / median(epoch.images_per_s for epoch in row.training.epochs)


def main(folder: Path) -> None:
    rows = {row.candidate: row for row in read(folder).rows if row.artifact.runtime != "torch"}
    plain, cached, online = (rows[k] for k in ("cached (no teacher)", "cached", "online"))
    base = seconds_per_1000(plain)
    print("| student | training, s per 1,000 images | against plain training | top-1 |")
    print("| --- | --- | --- | --- |")
    for row in (plain, cached, online):
        seconds = seconds_per_1000(row)
        top1 = row.accuracy.top1.value
        print(f"| {row.candidate} | {seconds:.2f} | {seconds / base:.2f} | {top1:.1%} |")
    drop = paired_drop(online.accuracy.correct, cached.accuracy.correct)
    print(
        f"\nOnline minus cached: {100 * drop.value:+.1f} points of top-1 "
        f"(95 %: {100 * drop.low:+.1f} to {100 * drop.high:+.1f}, paired, "
        f"{cached.accuracy.images} images)."
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/cached_or_online"))
