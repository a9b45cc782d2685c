"""What a teacher's file notes of the images that it was trained on, where the recipe says nothing.

What the recipe sets counts in any case. The size does, too, where it is not set: other networks of
the recipe are compared with it before anybody has looked into a file.
"""

from collections.abc import Iterator, Sequence

from compress.data.input_spec import Channels, Fit
from compress.models.own_input import OwnInput, check_noted
from compress.recipe.schema import TeacherSettings


def with_noted(settings: TeacherSettings, noted: OwnInput | None, name: str) -> TeacherSettings:
    """Return the settings with the file's channels, mean and std where the recipe sets none.

    Args:
        noted: what the file says; None: nothing.
        name: of the file, for messages.

    Raises:
        UserError: the file's mean and std would be taken, and cannot be right.
    """
    if noted is None:
        return settings
    said = settings.model_fields_set
    normalised = {"mean", "std"} & said
    own_channels = "channels" in said or (normalised and len(settings.mean) != len(noted.mean))
    channels = settings.channels if own_channels else noted.channels
    found: dict[str, object] = {"channels": channels}
    unsaid = {"mean", "std"} - said
    if unsaid and (theirs := _in_order(noted, channels)):
        check_noted(noted, name)
        found |= {key: theirs[key] for key in unsaid}
    return settings.model_copy(update=found)


def notes_on(taken: TeacherSettings, fit: Fit, noted: OwnInput | None, name: str) -> Iterator[str]:
    """Yield what of the network's input the file says, and where the recipe says otherwise.

    Args:
        taken: the settings that a stage works with, as `with_noted` gave them.
        fit: that it works with.
        noted, name: as `with_noted` takes them.
    """
    if noted is None:
        return
    usual = {key: TeacherSettings.model_fields[key].default for key in ("channels", "mean", "std")}
    theirs = {"channels": noted.channels, **(_in_order(noted, taken.channels) or {})}
    ours = {key: getattr(taken, key) for key in theirs}
    same = [key for key in theirs if theirs[key] == ours[key] != usual[key]]
    if same:
        shown = ", ".join(f"{key} {_shown(ours[key])}" for key in same)
        yield f"{name} notes how its images were prepared, and they are: {shown}"
    other: dict[str, tuple[object, object]]
    other = {key: (theirs[key], ours[key]) for key in theirs if theirs[key] != ours[key]}
    size = [taken.image_size] * 2 if isinstance(taken.image_size, int) else taken.image_size
    if noted.size is not None and list(noted.size) != list(size):
        other["image_size"] = (list(noted.size), list(size))
    if noted.fit not in (None, fit):
        other["fit"] = (noted.fit, fit)
    if other:
        shown = ", ".join(f"{key} {_shown(x)} and not {_shown(y)}" for key, (x, y) in other.items())
        yield (
            f"{name} notes that its images were prepared otherwise than the recipe says: {shown}. "
            "The recipe counts; change it if that is not meant (fit stands under data)"
        )


def _in_order(noted: OwnInput, channels: Channels) -> dict[str, list[float]] | None:
    """Return the file's mean and std for these channels.

    None: it is for another number of them, or takes bytes and normalises them itself.
    """
    if (noted.channels == "grey") != (channels == "grey") or noted.dtype == "uint8":
        return None
    step = 1 if noted.channels == channels else -1  # rgb and bgr: each colour keeps its numbers
    pairs = {"mean": noted.mean, "std": noted.std}
    return {key: [float(x) for x in values[::step]] for key, values in pairs.items()}


def _shown(value: object) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(f'{x:.4g}' for x in value)}]"
    return str(value)
