"""Energy of a call, from the counters that a CPU keeps of its packages (RAPL on Linux).

The kernel shows them to root only on most systems, and virtual machines have none.
"""

import time
from collections.abc import Callable
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
MEASURE_S = 2.0  # the counters tick about once a millisecond


def energy_per_call_j(
    call: Callable[[], object], measure_s: float = MEASURE_S, powercap: Path = POWERCAP
) -> float | None:
    """Joules of one call, all CPU packages together; None where they are not counted.

    What the packages draw when idle is part of it: the call keeps the machine that long.
    """
    zones = [x for x in powercap.glob("intel-rapl:*") if x.name.count(":") == 1]
    try:
        # Beside the packages may stand the whole machine (psys), which has them in it.
        packages = [x for x in zones if (x / "name").read_text("ascii").startswith("package")]
        before = {package: _microjoules(package / "energy_uj") for package in packages}
        ranges = {package: _microjoules(package / "max_energy_range_uj") for package in packages}
    except OSError:  # not for this user
        return None
    if not packages:
        return None
    calls, until = 0, time.perf_counter() + measure_s
    while not calls or time.perf_counter() < until:
        call()
        calls += 1
    used = [
        (_microjoules(package / "energy_uj") - before[package]) % ranges[package]
        for package in packages
    ]
    return sum(used) / 1e6 / calls


def _microjoules(counter: Path) -> int:
    return int(counter.read_text("ascii"))
