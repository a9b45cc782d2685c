"""Several processes that compute together, started as torchrun starts them."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def torchrun(
    count: int, folder: Path, code: str, *arguments: str
) -> Iterator[list[subprocess.Popen[str]]]:
    """Run code in a folder, in each process, until the block ends."""
    (folder / "run.py").write_text(code)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with ExitStack() as ends:
        found = []
        for rank in map(str, range(count)):
            own = {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
            process = subprocess.Popen(
                [sys.executable, "run.py", *arguments], stdout=subprocess.PIPE, text=True,
                cwd=folder, env=os.environ | world | own | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            found.append(ends.enter_context(process))
            ends.callback(process.kill)
        yield found
