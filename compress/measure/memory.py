"""Peak memory of a fresh process that loads an artifact and runs it once."""

import subprocess
import sys
from pathlib import Path


def peak_memory_bytes(path: Path, runtime: str, threads: int, allowed: tuple[str, ...]) -> int:
    """Largest resident set, Python and runtime included: what a server must have.

    Raises:
        RuntimeError: the process failed; the message holds what it printed.
    """
    arguments = [str(path), runtime, str(threads), *allowed]
    done = subprocess.run(
        [sys.executable, "-m", "compress.measure.memory", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"measuring the memory of {path} failed: {done.stderr.strip()}")
    return int(done.stdout.split()[-1])


def _main(path: Path, runtime: str, threads: int, allowed: tuple[str, ...]) -> None:
    import numpy as np

    from compress.runtimes import open_session

    session = open_session(path, runtime, threads, allowed)
    session.run(np.zeros((1, 3, *session.picture_size), dtype=np.float32))
    print(_peak_bytes())


def _peak_bytes() -> int:
    if sys.platform == "linux":
        # getrusage would tell the peak of the process that started this one, if that was larger.
        status = Path("/proc/self/status").read_text("ascii").splitlines()
        line = next(line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), tuple(sys.argv[4:]))
