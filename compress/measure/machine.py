"""Which machine this is, and how many threads it grants."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

from compress.results.schema import LIBRARIES, Machine
from compress.runtimes import discover
from compress.runtimes.threads import cpus

# What decides how fast float, int8 and binary layers run.
FLAGS = (
    "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16",
    "avx512_fp16", "avx512_vpopcntdq", "amx_bf16", "amx_int8", "asimd", "asimddp", "i8mm", "bf16",
)  # fmt: skip


def machine() -> Machine:
    """The facts a measurement is reported with."""
    import psutil

    model, flags = _cpu()
    packages = dict.fromkeys([*LIBRARIES, *(x.package for x in discover().values())])
    return Machine(
        cpu=model,
        cpu_flags=[flag for flag in FLAGS if flag in flags],
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        versions={p: v for p in packages if (v := _version(p)) is not None},
    )


def usable_threads() -> int:
    """Cores that this process may use: its affinity, and its cgroup's quota where there is one."""
    cores = len(cpus()) or os.cpu_count()
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        limit = max(1, int(quota) // int(period))
    except (OSError, ValueError):
        return cores or 1
    return min(cores or 1, limit)


def frequency_mhz() -> float | None:
    """The clock of the core that runs fastest just now; None where the system does not tell."""
    import psutil

    try:
        cores = psutil.cpu_freq(percpu=True)
    except (AttributeError, NotImplementedError, OSError):  # psutil's ways of not knowing
        return None
    return max((core.current for core in cores), default=0.0) or None


def _cpu() -> tuple[str, set[str]]:
    model, flags = platform.processor() or platform.machine(), set[str]()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() == "model name":
                    model = value.strip()
                elif key.strip().lower() in ("flags", "features"):
                    flags = set(value.split())
    except OSError:
        pass
    return model, flags


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
