"""Compression methods, one file each. A file here is its registration; it holds

- `VERSION`: raised when the step computes something else from the same settings
- `Settings`: what a recipe may say, typed. A `student` in it is a network of its own, so that the
  step must come first; `view_settings()` are the teacher outputs that it wants cached
- `apply(inputs, settings, context) -> Candidate`
and where it has something to say on them
- `prepare(inputs, settings, context) -> Candidate` and `PREPARED`: what comes before anything is
  measured (training, ranges), and the settings that it looks at; `apply` goes on from it
- `decide(inputs, settings, context) -> Decided`: what to do; `apply` finds it in `inputs.decided`
- `decides_by_times(settings)`: whether that is by times on this machine, against the teacher's
  deployed file
- `MEASURES`: what it makes is proven or timed on this machine, too, by `apply`
- `JUDGES`: it decides by right answers, so that how near points must be is its business too
- `controls(settings)`: the settings of control rows, by their suffix
- `check(settings, before, build, image_size)`: refuses what can be refused from the networks alone
- `CHECKED: set[str]`: the settings that its check looks at, where not all of them matter
- `on_file(settings)`: whether it can start from an ONNX teacher, whose network has no code
- `LAST`: nothing can follow it, and why
- `RUNTIMES: tuple[str, ...]`: the runtimes that its files run in, where not all do; what it judges
  it judges there (without this, in onnxruntime)

Importing a step never imports torch, so that a recipe is checked in no time.
"""

import importlib
import pkgutil
from types import ModuleType


def discover() -> dict[str, ModuleType]:
    """The steps by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    return {name: importlib.import_module(f"{__name__}.{name}.step") for name in names}
