"""The end of a network, which is of its classes alone: what a pretrained network gets anew."""

from collections.abc import Sequence
from difflib import get_close_matches

from torch import nn

from compress.models.weight_names import is_auxiliary
from compress.utils.errors import UserError


def head_of(model: nn.Module, named: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the modules that are a network's head.

    That is its last linear layer (or convolution), and the last of each auxiliary head.

    Args:
        named: the modules, where a recipe names them.

    Raises:
        UserError: no such module, or none that could be the head.
    """
    modules = dict(model.named_modules())
    for name in named:
        if name not in modules or not name:
            near = get_close_matches(name, modules, 3, 0.3) or list(modules)[1:4]
            raise UserError(f"head: no module {name!r}. Did you mean {', '.join(near)}?")
    if named:
        return tuple(named)
    layers = _layers(model)
    auxiliary = {name.partition(".")[0]: name for name in layers if is_auxiliary(name)}
    own = [name for name in layers if not is_auxiliary(name)]
    if not own:
        raise UserError("the network has no linear layer: name its head with head.")
    return (own[-1], *auxiliary.values())


def last_layer(model: nn.Module, head: Sequence[str]) -> str:
    """Return the name of the layer that gives a network's classes: the last one of its head.

    Args:
        head: as `head_of` returns it; auxiliary heads do not count.

    Raises:
        UserError: there is no linear layer, or convolution, in it.
    """
    layers = [x for x in _layers(model) if belongs(x, head) and not is_auxiliary(x)]
    if not layers:
        raise UserError(
            f"head: there is no linear layer in {' and '.join(head)}, so nothing there gives the "
            "classes: name the last one, too."
        )
    return layers[-1]


def _layers(model: nn.Module) -> list[str]:
    """Return the names of linear layers and convolutions, in the network's order."""
    return [x for x, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]


def belongs(name: str, head: Sequence[str]) -> bool:
    """Whether a tensor or a module, by its name, is of the head; "" is the whole network."""
    return any(name == module or not module or name.startswith(f"{module}.") for module in head)
