"""A cascade's folder, loaded: several networks that look at one photograph. Needs no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compress.cascade.answer import Found, Network, decode, find, name_of, ranked_names
from compress.cascade.spec import CascadeSpec, CascadeStage
from compress.cascade.views import Point
from compress.data.input_spec import InputSpec
from compress.export.artifact import spec_of
from compress.models.sessions import open_session
from compress.runtimes import runtime_for
from compress.utils.errors import UserError

__all__ = ["Cascade", "decode", "loaded"]  # decode, because datasets were made with it from here


def loaded(stage: CascadeStage, path: Path, threads: int, allowed: tuple[str, ...] = ()) -> Network:
    """Load a stage's model; it runs after others, not alone."""
    runtime = stage.runtime or runtime_for(path)
    session = open_session(path, runtime, threads, allowed, alone=False)
    if session.spec is None:
        return Network(stage, spec_of(path), session)  # says what is missing
    return Network(stage, InputSpec.model_validate_json(session.spec), session)


class Cascade:
    """The loaded networks of a cascade."""

    def __init__(
        self,
        networks: Sequence[Network],
        min_probability: float = 0.0,
        annotated: Sequence[str] = (),
    ) -> None:
        """
        Args:
            annotated: points that `find` is told.

        Raises:
            UserError: a stage that needs points which none before it finds, or a stage that names
                things before the last.
        """
        self.networks = list(networks)
        self.min_probability = min_probability
        self.annotated = tuple(annotated)
        known = set(self.annotated)
        for number, network in enumerate(self.networks):
            stage, spec = network.stage, network.spec
            if missing := [name for name in stage.needs if name not in known]:
                raise UserError(
                    f"{stage.name} looks at {', '.join(missing)}, which no stage before it finds "
                    f"({', '.join(sorted(known)) or 'none'} are known)."
                )
            if not spec.points and number < len(self.networks) - 1:
                raise UserError(f"{stage.name} names things and finds no points: put it last.")
            known |= set(spec.points)

    @classmethod
    def load(cls, folder: Path, threads: int, allowed: tuple[str, ...] = ()) -> "Cascade":
        """Loads a cascade folder.

        Raises:
            UserError: anything wrong with `pipeline.json` or with a model.
        """
        spec = CascadeSpec.load(folder)
        networks = [loaded(x, folder / x.model, threads, allowed) for x in spec.stages]
        return cls(networks, spec.min_probability, spec.annotated)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that the last stage gives; empty where it finds points."""
        return self.networks[-1].spec.classes

    @property
    def warped(self) -> tuple[str, ...]:
        """The two points by which a view is turned; none where no stage warps."""
        return next((tuple(n.stage.warp) for n in self.networks if n.stage.warp), ())

    def find(self, photograph: bytes, annotated: Mapping[str, Point] | None = None) -> Found:
        """From the bytes of an image file to points and probabilities; as `answer.find`.

        Args:
            annotated: points in pixels of the upright photograph, where the cascade finds none.

        Raises:
            UserError: annotations that are missing.
        """
        self.refuse_without(annotated or {})
        return find(photograph, self.networks, annotated)

    def refuse_without(self, annotated: Mapping[str, Point]) -> None:
        """Refuse to look for what the cascade must be told.

        Raises:
            UserError: which annotations are missing.
        """
        if missing := set(self.annotated) - set(annotated):
            raise UserError(
                f"This cascade finds no {', '.join(sorted(missing))}: it shows what such stages "
                "could be worth, on annotated photographs alone (compress eval)."
            )

    def name(self, found: Found) -> str | None:
        """The most probable class; None where it is less probable than the cascade asks for."""
        return name_of(found, self.classes, self.min_probability)

    def rows(self, found: Found, top: int) -> list[dict[str, Any]]:
        """Return what was found for scripts: a row for each of the most probable names, or one.

        `named` is the name where the cascade is sure enough, else None; points are pixels.
        """
        points = {"points": {name: list(place) for name, place in found.points.items()}}
        names = ranked_names(found, self.classes, top)
        if not names:
            return [points]
        named = self.name(found)
        return [
            {"rank": rank, "class": name, "probability": p, "named": named, **points}
            for rank, (p, name) in enumerate(names, 1)
        ]
