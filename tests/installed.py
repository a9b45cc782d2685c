"""Packages of others as if they were installed, and `compress` run beside them."""

import os
import shlex
import subprocess
import sys
from pathlib import Path


def installed(folder: Path, name: str, entry_points: str) -> Path:
    """Write what pip leaves of a package called `name` into a folder, and return the folder."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
    return folder


def compress(package: Path, *words: object, rc: int = 0) -> str:
    """Run a command with the packages of a folder; return what it printed on stdout and stderr."""
    paths = os.pathsep.join([str(package), str(Path(__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "compress", *map(str, words)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == rc, f"{shlex.join(map(str, words))}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr
