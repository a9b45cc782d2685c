"""The end of a network, which is of its classes alone: what a pretrained network gets anew."""

from collections.abc import Sequence
from difflib import get_close_matches

from torch import nn

from compress.models.weight_names import is_auxiliary
from compress.utils.errors import UserError


def head_of(model: nn.Module, outputs: int, named: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the modules that are a network's head.

    Args:
        outputs: numbers that the network answers with: its last linear layer (or convolution) with
            so many is the head, and that of each auxiliary head.
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
    last = [name for name, module in modules.items() if _gives(module) == outputs]
    auxiliary = {name.partition(".")[0]: name for name in last if is_auxiliary(name)}
    own = [name for name in last if not is_auxiliary(name)]
    if not own:
        raise UserError(
            f"which part of the network is its head is not known: no linear layer gives {outputs} "
            "numbers. Name it with head."
        )
    return (own[-1], *auxiliary.values())


def belongs(name: str, head: Sequence[str]) -> bool:
    """Whether a tensor or a module, by its name, is of the head."""
    return any(name == module or name.startswith(f"{module}.") for module in head)


def _gives(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear):
        return module.out_features
    return module.out_channels if isinstance(module, nn.Conv2d) else None
