"""Start-up of the command line, and whether loading and augmenting images keeps up.

    python benchmarks/speed.py [DATA]

DATA is a folder in any layout that `compress run` takes; synthetic whales are made without it.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from compress.data.dataset import Dataset
from compress.data.image_cache import Decoded
from compress.data.input_spec import InputSpec
from compress.data.layouts import read_folder
from compress.data.split import draw_split
from compress.measure.machine import machine, usable_threads
from compress.models.builders import build
from compress.training.batches import ImageFeed
from compress.training.groups import make_optimizer
from compress.training.settings import TrainSettings
from teachers.synthetic_whales import heads

STUDENTS = ("students.shufflenet:shufflenet_v2_x1_0", "students.mobilenet:mobilenet_v3_small")
STEPS = 12


def start_up_s(*arguments: str) -> float:
    """Median seconds of five fresh processes."""
    samples = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "compress", *arguments], capture_output=True, check=False
        )
        samples.append(time.perf_counter() - started)
    return median(samples)


def feed_of(data: Dataset, size: int, cache: Path) -> ImageFeed:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    spec = InputSpec(height=size, width=size, mean=mean, std=std, classes=data.classes)
    pool = data.indices("train")
    pool = np.resize(pool, max(len(pool), 64 * (STEPS + 1)))
    return ImageFeed(
        data=data,
        pixels=Decoded(data, cache),
        spec=spec,
        settings=TrainSettings(epochs=1),
        pool=pool,
        images_per_epoch=len(pool),
        seed=0,
        device=torch.device("cpu"),
    )


def loading_rate(feed: ImageFeed) -> float:
    """Images per second of reading and augmenting alone."""
    batches = feed.batches(0)
    next(batches)
    started = time.perf_counter()
    count = sum(len(batch.indices) for _, batch in zip(range(STEPS), batches, strict=False))
    return count / (time.perf_counter() - started)


def training_rate(feed: ImageFeed, student: str) -> float:
    """Images per second of forward, backward and optimizer alone, on one batch repeated."""
    model = build(student, {}, len(feed.data.classes), ()).train()
    model.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, feed.settings)
    batch = next(feed.batches(0))
    samples = []
    for _ in range(STEPS):
        started = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(model(batch.inputs), batch.targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        samples.append(time.perf_counter() - started)
    return len(batch.indices) / median(samples)


def main() -> None:
    here = machine()
    torch.set_num_threads(usable_threads())
    print(f"{here.cpu}, {usable_threads()} threads, torch {here.versions['torch']}\n")
    print("| command | start to end, s (median of 5) |\n| --- | --- |")
    reports = sorted(str(p.parent) for p in Path("reports").rglob("results.jsonl"))
    print(f"| compress --help | {start_up_s('--help'):.2f} |")
    if reports:
        arguments = ("choose", reports[0], "--speedup", "5", "--max-accuracy-drop", "0.02")
        print(f"| compress choose | {start_up_s(*arguments):.2f} |")
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            root = Path(sys.argv[1])
        else:
            root = Path(folder) / "heads"
            root.mkdir()
            heads(root, pictures=600, unlabelled=0, size=192)
        data = draw_split(read_folder(root), 0.2, 0)
        print("\n| images/s | size | loading + augmentation | student's training | times faster |")
        print("| --- | --- | --- | --- | --- |")
        for size in (64, 128, 192):
            feed = feed_of(data, size, Path(folder))
            loading = loading_rate(feed)
            for student in STUDENTS:
                training = training_rate(feed, student)
                name = student.rpartition(":")[2]
                print(
                    f"| {name} | {size} | {loading:.0f} | {training:.0f} | "
                    f"{loading / training:.1f} |"
                )


if __name__ == "__main__":
    main()
