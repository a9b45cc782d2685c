"""Which of a file's tensors are a network's, and under which names."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

StateDicts = dict[str, dict[str, Tensor]]  # by where they lie in a file; "" is the file itself

# What wrapping a part of a network puts into names.
_COMPILED = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_USUAL = {
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "params",
    "weights",
}
_AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged?|polyak|shadow)([._]|$)", re.IGNORECASE)
# Counts that AveragedModel and the FLOP counter thop leave among the weights.
_COUNTS = {"n_averaged", "total_ops", "total_params"}


def fitted(state_dicts: StateDicts, model: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that fit a network best, under the network's names, and notes on the choice.

    What comes before the names (dicts within dicts, `module.`, `model.`…) is removed where they
    are the network's then. Of state dicts that fit alike, averaged weights (EMA, SWA) are taken
    before others, then those under a usual name, then the first. Auxiliary heads that the network
    does not have are left out. Whatever else differs is for `load_into` to refuse.
    """
    wanted = model.state_dict()
    variants = [list(_readings(named, wanted)) for named in _variants(state_dicts)]
    readings = min(filter(None, variants), key=lambda v: min(r.faults for r in v), default=[])
    if not readings:
        return max(state_dicts.values(), key=len), []
    best = min(readings, key=lambda r: (r.faults, r.preference))
    if best.faults[0] > len(best.tensors):
        return best.tensors, []  # another network's: nothing is worth saying of them
    alike = [r.prefix for r in readings if r.faults == best.faults]
    return best.tensors, list(_notes(best, alike))


def _notes(best: "_Reading", alike: list[str]) -> Iterator[str]:
    """Says what was taken and what was left.

    Args:
        alike: prefixes of all that fit as well, the best's included.
    """
    if len(alike) > 1:
        others = " and ".join(_shown(prefix) for prefix in alike if prefix != best.prefix)
        yield (
            f"weights are {_shown(best.prefix)}{', the averaged ones,' * best.averaged} and not "
            f"{others} (if you mean another state dict, save it alone)"
        )
    if best.auxiliary:
        modules = [name.partition(".")[0] for name in best.auxiliary]
        yield _left_out(modules, "auxiliary heads that the network does not have")
    beside = [name for name in best.beside if not name.startswith(tuple(alike))]
    if beside:
        modules = [name.rpartition(".")[0] or name for name in beside]
        yield _left_out(modules, f"beside the network, which is {best.prefix}*")


@dataclass(frozen=True)
class _Reading:
    """A file's tensors as a network's: those whose names begin with a prefix, without it."""

    prefix: str
    tensors: dict[str, Tensor]
    auxiliary: list[str]  # names left out of `tensors`
    beside: list[str]  # whole names in the same state dicts that do not begin with the prefix
    faults: tuple[int, int, int]  # missing, of another shape, unknown
    averaged: bool

    @property
    def preference(self) -> tuple[bool, bool]:
        """Sorts before what fits as well but is less likely to be meant."""
        return not self.averaged, not _USUAL.issuperset(self.prefix.split(".")[:-1])


_Named = dict[str, tuple[str, Tensor]]  # by whole name: the state dict that it is in, the tensor


def _variants(state_dicts: StateDicts) -> Iterator[_Named]:
    """Tensors by their whole names, then without ever more of what wrapping puts between."""
    named = {
        f"{where}.{name}".removeprefix("."): (where, tensor)
        for where, tensors in state_dicts.items()
        for name, tensor in tensors.items()
    }
    yield named
    for wrapping in (_COMPILED, _COMPILED | {"module"}):
        bare = {
            ".".join(part for part in name.split(".") if part not in wrapping): place
            for name, place in named.items()
        }
        if len(bare) == len(named) and bare.keys() != named.keys():
            yield bare


def _readings(named: _Named, wanted: Mapping[str, Tensor]) -> Iterator[_Reading]:
    """Ways to read the file by which the network gets at least one tensor."""
    prefixes = dict.fromkeys(
        name[:cut]
        for name in named
        for cut in (0, *(dot.end() for dot in re.finditer(r"[.]", name)))
        if name[cut:] in wanted
    )
    modules = {name.partition(".")[0] for name in wanted}
    for prefix in prefixes:
        below = {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}
        homes = {where for name, (where, _) in below.items() if name in wanted}
        tensors = {
            name: tensor
            for name, (where, tensor) in below.items()
            if where in homes and (name in wanted or not _is_count(name))
        }
        auxiliary = [k for k in tensors if is_auxiliary(k) and k.partition(".")[0] not in modules]
        tensors = {k: v for k, v in tensors.items() if k not in auxiliary}
        beside = [k for k, (where, _) in named.items() if where in homes and not _is_count(k)]
        missing, shapes, unknown = differences(tensors, wanted)
        yield _Reading(
            prefix=prefix,
            tensors=tensors,
            auxiliary=auxiliary,
            beside=[k for k in beside if not k.startswith(prefix)],
            faults=(len(missing), len(shapes), len(unknown)),
            averaged=_AVERAGED.search(prefix) is not None
            or f"{prefix.removesuffix('module.')}n_averaged" in named,
        )


def differences(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[list[str], list[str], list[str]]:
    """Names that are missing, of another shape, and unknown to the network.

    Counts of batches may be missing, and the second name of a tensor that the network has twice.
    """
    given = {_identity(v) for k, v in wanted.items() if k in tensors}
    missing = [
        k
        for k, v in wanted.items()
        if k not in tensors and not k.endswith("num_batches_tracked") and _identity(v) not in given
    ]
    shared = [k for k in wanted if k in tensors and not is_lazy(wanted[k])]
    shapes = [k for k in shared if tensors[k].shape != wanted[k].shape]
    return missing, shapes, [k for k in tensors if k not in wanted]


def _identity(tensor: Tensor) -> object:
    """What two names of the same tensor have in common."""
    if is_lazy(tensor) or tensor.numel() == 0:
        return id(tensor)
    return tensor.data_ptr(), tensor.shape


def is_auxiliary(name: str) -> bool:
    """Whether a tensor is of a head that serves training only."""
    return name.lower().startswith("aux")


def _is_count(name: str) -> bool:
    return name.rpartition(".")[2] in _COUNTS


def _shown(prefix: str) -> str:
    return f"those under {prefix.removesuffix('.')!r}" if prefix else "those not wrapped"


def _left_out(modules: list[str], reason: str) -> str:
    """A note on tensors that are not the network's; `modules` has an entry for each of them."""
    names = list(dict.fromkeys(modules))
    more = ", …" if len(names) > 5 else ""
    count = f"{len(modules)} tensor{'s' * (len(modules) != 1)}"
    return f"weights left out: {', '.join(names[:5])}{more} ({count}), {reason}"
