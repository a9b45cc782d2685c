"""What reaches one module of a network, computed once for stored views.

Training only the last part of a network on these costs minutes where the whole would take hours.
"""

from collections.abc import Callable
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.models.candidate import Candidate
from compress.models.memory_format import laid_out, place
from compress.runtimes.outputs import in_order
from compress.training.augmentation import apply_views, normalise_pixels, to_pixels
from compress.training.batches import Pixels
from compress.training.loop import autocast
from compress.training.settings import TrainSettings
from compress.utils.errors import UserError
from compress.utils.files import atomic


class _Reached(Exception):
    pass


@torch.no_grad()  # what is trained later is moved to the device here
def module_inputs(
    teacher: Candidate,
    name: str,
    settings: TrainSettings,
    indices: np.ndarray,
    views: np.ndarray,
    pixels: Pixels,
    folder: Path,
    device: torch.device,
    progress: Callable[[int, int], None],
    batch_size: int = 64,
) -> np.ndarray:
    """Return the inputs of module `name`: float16 (1 + views, len(indices), ...).

    View 0 is the image as it is. Each view is stored in `folder` when finished, so that a killed
    run loses one at most.

    Raises:
        UserError: the network has no such module, or does not end in it.
    """
    model, spec = teacher.model, teacher.spec
    module = _module(model, name)
    source = pixels(spec)
    layout = place(model, device, torch.zeros(2, *spec.shape))
    model.eval()
    _check_last(module, model, laid_out(torch.zeros(2, *spec.shape, device=device), layout))

    def inputs(x: Tensor) -> Tensor:
        with autocast(device, settings.precision):
            return _reaching(module, model, laid_out(x, layout))

    def view(number: int, chunk: np.ndarray) -> Tensor:
        if number == 0:
            return normalise_pixels(to_pixels(source[chunk], device), spec)
        drawn = views[number - 1, chunk]
        return apply_views(source[chunk], drawn, spec, device, settings.augmentation.erase)

    for number in range(len(views) + 1):
        file = folder / f"features-{number}.npy"
        if not file.is_file():
            caught = []
            for start in range(0, len(indices), batch_size):
                chunk = indices[start : start + batch_size]
                caught.append(inputs(view(number, chunk)))
                done = number * len(indices) + start + len(chunk)
                progress(done, (len(views) + 1) * len(indices))
            _save(torch.cat(caught).numpy(), file)
        stored = np.load(file, mmap_mode="r")
        if number == 0:  # all of them twice, as a list and as one array, might not fit
            found = np.empty((len(views) + 1, *stored.shape), stored.dtype)
        found[number] = stored
    return found


def _check_last(module: nn.Module, model: nn.Module, images: Tensor) -> None:
    """Refuse a module that something follows: what trains it alone would not see that.

    Raises:
        UserError: another gives the network's outputs.
    """
    given: list[Any] = []
    with module.register_forward_hook(lambda _module, _inputs, output: given.append(output)):
        outputs = in_order(model(images))
    if given and {id(x) for x in in_order(given[-1])} != {id(x) for x in outputs}:
        raise UserError(
            "teacher.train_only: what it names is not the end of the network, whose outputs "
            "another part gives. Name the last part, or train the network without train_only."
        )


def _module(model: nn.Module, name: str) -> nn.Module:
    """Return the module of that name.

    Raises:
        UserError: the network has none, or it is the network itself.
    """
    modules = dict(model.named_modules())
    if name not in modules or not name:
        near = get_close_matches(name, modules, 3, 0.3) or list(modules)[1:4]
        raise UserError(f"teacher.train_only: no module {name!r}. Did you mean {', '.join(near)}?")
    return modules[name]


def _reaching(module: nn.Module, model: nn.Module, x: Tensor) -> Tensor:
    """Run the network up to the module; return what reaches it, in float16 on the CPU.

    Raises:
        UserError: nothing does.
    """
    caught: list[Tensor] = []

    def catch(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        caught.append(inputs[0].half().cpu())
        raise _Reached

    with module.register_forward_pre_hook(catch), suppress(_Reached):
        model(x)
    if not caught:
        raise UserError("teacher.train_only names a module that the network never runs.")
    return caught[0]


def _save(array: np.ndarray, file: Path) -> None:
    array = np.ascontiguousarray(array)  # maps of a network that computes channels last are not
    with atomic(file) as temporary, temporary.open("wb") as out:
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(out, header)
        out.write(array.data.cast("B"))  # ndarray.tofile hides why it failed
