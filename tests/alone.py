"""Python that can import nothing but a runtime, numpy, pillow and what is its own."""

import site
import subprocess
import sys
from pathlib import Path

ONLY = """
import sys

class Only:
    allowed = set(sys.stdlib_module_names) | {"numpy", "PIL", PACKAGE}
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)

sys.meta_path.insert(0, Only())
sys.path.append(SITE)
"""
SCRIPT = """
import runpy
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not {"torch", "compress", "scipy", "onnx"} & set(sys.modules)
"""


def run_alone(code: str, package: str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    """Run code in which the runtime's package can be imported, and return what it printed."""
    given = ONLY.replace("PACKAGE", repr(package)).replace("SITE", repr(site.getsitepackages()[0]))
    given += f"sys.argv = {list(map(str, arguments))!r}\n{code}"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", given], capture_output=True, text=True, check=False
    )


def run_script(folder: Path, package: str, *images: Path) -> subprocess.CompletedProcess[str]:
    """Run an exported folder's predict.py."""
    return run_alone(SCRIPT, package, folder / "predict.py", *images)
