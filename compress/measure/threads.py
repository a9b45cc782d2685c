"""How the threads of a timed process wait and where they run: told, not left to the shell."""

import os

# Each changes how long idle threads spin, how many there are, or where they run. A number must not
# depend on what the shell that started `compress` happened to set.
VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "OMP_DYNAMIC",
    "GOMP_SPINCOUNT",
    "GOMP_CPU_AFFINITY",
    "KMP_BLOCKTIME",
    "KMP_AFFINITY",
    "MKL_NUM_THREADS",
    "MKL_DYNAMIC",
)
# Said in every report.
SPINNING = {
    "onnxruntime": "spin while a model runs, sleep between two runs",
    "openvino": "as OpenVINO has it (they sleep when there is nothing to do)",
    "torch": "as OpenMP has it (they spin for a while)",
}


def environment() -> dict[str, str]:
    """The environment of a timed process: this one's without VARIABLES."""
    return {name: value for name, value in os.environ.items() if name not in VARIABLES}


def cpus() -> list[int]:
    """Numbers of the CPUs that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
