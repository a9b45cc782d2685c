"""Classes that other packages subclass: a misspelt hook is an error, not a hook never asked."""

from collections.abc import Collection
from difflib import get_close_matches


def refuse_unknown(cls: type, base: type, kind: str, more: Collection[str] = ()) -> None:
    """Refuse attributes of a subclass that its base class does not know.

    Args:
        kind: what the base class is, in words: "method".
        more: names that are allowed though the base class has no such attribute.

    Raises:
        TypeError: names the attribute, and the nearest hook.
    """
    hooks = {name for name in dir(base) if not name.startswith("_")} | set(more)
    for name in vars(cls):
        if not name.startswith("_") and name not in hooks:
            near = get_close_matches(name, sorted(hooks), 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise TypeError(f"{cls.__name__}.{name} is no hook of a {kind}.{hint}")
