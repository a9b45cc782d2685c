"""Under torchrun the first process computes the stages, and the others train with it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
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
    (tmp_path / "run.py").write_text(RUN)
    started = []
    for rank in "01":
        world = {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}
        port = {"MASTER_PORT": str(31000 + os.getpid() % 2000), "OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(
                [sys.executable, "run.py", "out"], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
                env=os.environ | world | port | {"PYTHONPATH": str(ROOT)},
            )
        )  # fmt: skip
    assert [process.communicate(timeout=200)[0] for process in started] == ["ended\n"] * 2
    folders = {x.name.partition("-")[0]: x for x in (tmp_path / "out" / "stages").glob("[!.s]*")}
    made = {kind: sorted(x.name for x in folder.iterdir()) for kind, folder in folders.items()}
    assert made == {"data": ["0", "stage.json"], "latency": ["0", "stage.json"]}
    (trained,) = (x.parent for x in (tmp_path / "out" / "stages").glob("step-*/stage.json"))
    assert {x.name for x in trained.iterdir()} == {"0", "1", "stage.json"}
    assert "stage.json" in (trained / "1").read_text()  # what it builds on was there
