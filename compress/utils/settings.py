"""What everything in a recipe is made of."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
SMALLEST, LARGEST = 8, 2048  # sides of a network's input in pixels


def sides(size: int | Sequence[int]) -> tuple[int, int]:
    """Return height and width of an `image_size`: the side of a square, or both."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


LEAST_STD = 1e-6  # of pixels from 0 to 1: below it what a network is fed soon has no bounds
LARGEST_STD = 2.0  # of pixels from 0 to 1; beyond, it was meant for bytes


def check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse a mean and std that are not of pixels from 0 to 1, as many of one as of the other.

    Raises:
        ValueError: what is wrong.
    """
    if len(mean) != len(std) or len(mean) not in (1, 3):
        raise ValueError(
            f"mean and std need 3 numbers each, or 1 for grey, not {len(mean)} and {len(std)}"
        )
    if min(std) < LEAST_STD:
        raise ValueError(f"std {list(std)} is next to 0: pixels, from 0 to 1, are divided by it")
    if not all(0 <= x <= 1 for x in mean) or max(std) > LARGEST_STD:
        raise ValueError(
            f"mean {list(mean)} and std {list(std)} are on the scale of bytes: pixels are from 0 "
            "to 1 here, so divide by 255 (bytes as they are: mean 0, std 1/255 = 0.003922)"
        )


def _image_size(value: Any) -> int | list[int]:
    both = value if isinstance(value, list | tuple) else [value, value]
    if len(both) != 2 or not all(
        type(side) is int and SMALLEST <= side <= LARGEST for side in both
    ):
        raise ValueError(
            f"give the side of a square in pixels, from {SMALLEST} to {LARGEST}, or [height, "
            f"width], not {value!r}; a candidate of each size: a list of such pairs"
        )
    return both[0] if both[0] == both[1] else list(both)  # a square is the same, said either way


_Side = Annotated[int, Field(ge=SMALLEST, le=LARGEST)]
ImageSize = Annotated[
    _Side | Annotated[list[_Side], Field(min_length=2, max_length=2)], BeforeValidator(_image_size)
]  # of a network's input in pixels: the side of a square, or [height, width]
IN_KEY = "in key"  # tells serialization and validation what it is for
NOW = "x-now"  # in the JSON Schema of a setting's old name: what it is called now


class RecipeModel(BaseModel):
    """Base of everything in a recipe: no unknown keys, no silent conversions.

    A setting may get another name. For one version the old one is still taken, and whoever reads a
    recipe says so (`recipe/renamed.py`); in stages' keys it stays what it was, so that what was
    computed before is used again.

    Attributes:
        old_names: of settings, each with the name now.
        key_names: of settings in stages' keys, by the name now, where they differ.
        came_later: settings that stages' keys hold only where they are not the default.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    old_names: ClassVar[Mapping[str, str]] = {}
    key_names: ClassVar[Mapping[str, str]] = {}
    came_later: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for old in cls.old_names.keys() & value.keys():
            new = cls.old_names[old]
            if new in value:
                raise ValueError(f"{old} is the old name of {new}: give {new} alone")
            given = value[old]
            value = {key: x for key, x in value.items() if key != old}
            value |= {} if given is None else {new: given}  # none: as if it were not there
        return value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Editors take the old names, too, and strike them out."""
        schema = handler(core_schema)
        settings = handler.resolve_ref_schema(schema)
        for old, new in cls.old_names.items():
            note = {"deprecated": True, NOW: new}
            settings["properties"][old] = settings["properties"][new] | note
            if new in settings.get("required", ()):
                settings["required"].remove(new)
        return schema

    def in_key(self, **chosen: Any) -> dict[str, Any]:
        """Return the settings by their names in stages' keys.

        Args:
            chosen: as of `model_dump`, by the names now.
        """
        return self.model_dump(context=IN_KEY, **chosen)

    @model_serializer(mode="wrap")
    def _named_as_in_keys(
        self, dump: SerializerFunctionWrapHandler, info: SerializationInfo
    ) -> dict[str, Any]:
        """Give the settings, and those within, their names in keys where it is for one."""
        dumped: dict[str, Any] = dump(self)
        if info.context != IN_KEY:
            return dumped
        usual = {name: type(self).model_fields[name].default for name in self.came_later}
        return {
            self.key_names.get(name, name): value
            for name, value in dumped.items()
            if name not in usual or value != usual[name]
        }

    @classmethod
    def from_key(cls, described: Mapping[str, Any]) -> Self:
        """Return what `in_key` described; what else stands there is left out."""
        names = {cls.key_names.get(name, name): name for name in cls.model_fields}
        given = {names[k]: v for k, v in described.items() if k in names}
        return cls.model_validate(given, context=IN_KEY)

    def the_one_of(self, *names: str) -> str:
        """The one of these settings that is given.

        Raises:
            ValueError: none is, or several.
        """
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"not {' and '.join(given)}" if given else "none is given"
            wanted = f"{', '.join(names[:-1])} and {names[-1]}"
            raise ValueError(f"give exactly one of {wanted}: {found}")
        return given[0]
