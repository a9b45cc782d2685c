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
    layers = [x for x, module in modules.items() if isinstance(module, nn.Linear | nn.Conv2d)]
    auxiliary = {name.partition(".")[0]: name for name in layers if is_auxiliary(name)}
    own = [name for name in layers if not is_auxiliary(name)]
    if not own:
        raise UserError("the network has no linear layer: name its head with head.")
    return (own[-1], *auxiliary.values())


def belongs(name: str, head: Sequence[str]) -> bool:
    """Whether a tensor or a module, by its name, is of the head; "" is the whole network."""
    return any(name == module or not module or name.startswith(f"{module}.") for module in head)
