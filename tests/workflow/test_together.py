"""Under torchrun the first process computes the stages, and the others train with it."""

from pathlib import Path

from rich.console import Console

from compress.methods.context import Context
from compress.training.processes import processes
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.local import run_stage
from compress.workflow.shared import Shared
from tests.other_run import said
from tests.torchrun import torchrun
from tests.workflow.sleeping import context_in

RUN = """
import sys
from pathlib import Path
from rich.console import Console
from compress.training.processes import processes
from compress.utils.errors import UserError
from compress.utils.progress import Progress
from compress.workflow.cache import Stage, Store
from compress.workflow.executors.local import Local
from compress.workflow.run import alone
from tests.workflow.sleeping import context_in

def ran(stage, inputs, folder, context):
    (folder / str(processes().rank)).write_text(str(sorted(x.name for x in inputs["of"].iterdir())
                                                    if inputs else ""))
    if stage.settings.get("fails"):
        raise UserError("no luck")

out = Path(sys.argv[1])
first = Stage("data", "first", 1, {}, {}, ran)
trained = Stage("step", "trained", 1, {"train": {"epochs": 1}}, {"of": first}, ran)
timed = Stage("latency", "timed", 1, {"machine": {}, "train": {}}, {"of": trained}, ran)
bad = Stage("step", "bad", 1, {"train": {}, "fails": True}, {"of": trained}, ran)
progress = Progress(Console(quiet=True))
stages = [first, trained, timed]
store = Store(out / "stages")
with alone(out, progress), progress.tree({x.key: x.title for x in [*stages, bad]}):
    for _ in range(2):
        assert Local().run(stages, store, context_in(out, progress)) == {}
    try:
        Local().run([bad], store, context_in(out, progress))
    except UserError:
        processes().told(None)
        print("ended")
"""


def test_the_first_computes_and_the_others_train_with_it(tmp_path: Path) -> None:
    with torchrun(2, tmp_path, RUN, "out") as both:
        assert [process.communicate(timeout=200)[0] for process in both] == ["ended\n"] * 2
    assert [process.returncode for process in both] == [0, 0]
    folders = {x.name.partition("-")[0]: x for x in (tmp_path / "out" / "stages").glob("[!.s]*")}
    made = {kind: sorted(x.name for x in folder.iterdir()) for kind, folder in folders.items()}
    assert made == {"data": ["0", "stage.json"], "latency": ["0", "stage.json"]}
    (trained,) = (x.parent for x in (tmp_path / "out" / "stages").glob("step-*/stage.json"))
    assert {x.name for x in trained.iterdir()} == {"0", "1", "stage.json"}
    assert "stage.json" in (trained / "1").read_text()  # what it builds on was there


SHARED = """
import sys
from pathlib import Path
from rich.console import Console
from compress.training.processes import processes
from compress.utils.progress import Progress
from compress.workflow.cache import Store
from compress.workflow.executors.local import run_stage
from compress.workflow.shared import Shared
from tests.workflow.sleeping import context_in
from tests.workflow.test_together import trained_together

out = Path(sys.argv[1]) / str(processes().rank)
progress = Progress(Console(file=sys.stdout))
progress.titles[trained_together.key] = "trained"
store = Store(out, shared=Shared("shared"))
run_stage(trained_together, store, context_in(out, progress))
print((store.folder(trained_together) / "by").read_text(), flush=True)
"""


def train_together(stage: Stage, inputs: dict[str, Path], folder: Path, context: Context) -> None:
    """Train as several processes do: each waits for the others."""
    by = processes().mean(1.0, context.device) * processes().size
    (folder / "by").write_text(f"trained by {by:g}")


trained_together = Stage("step", "trained", 1, {"train": {"epochs": 1}}, {}, train_together)


def test_what_another_run_finishes_meanwhile_is_trained_by_none_of_them(tmp_path: Path) -> None:
    other = Store(tmp_path / "other", shared=Shared(str(tmp_path / "shared")))
    assert other.claims.take(other.name(trained_together))
    with torchrun(2, tmp_path, SHARED, "out") as both:
        assert "another run computes it" in said(both[0], limit_s=200)
        progress = Progress(Console(quiet=True))
        progress.titles[trained_together.key] = "trained"
        run_stage(trained_together, other, context_in(tmp_path, progress))
        ends = [process.communicate(timeout=100)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "reused" in ends[0] and ends[1] == "trained by 1\n"
