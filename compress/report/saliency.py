"""Where the networks look: a table, what it means, and the gallery if one was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from compress.analysis.explain import name
from compress.results.schema import Looks, Result, Saliency, SaliencyMethod
from compress.utils import units
from compress.utils.interval import Interval

METHODS: dict[SaliencyMethod, str] = {
    "grad_cam": "Grad-CAM",
    "occlusion": "occlusion",
    "deconvolution": "deconvolution",
}
HEADINGS = (
    *("row", "method", "% inside the box", "% of an even map", "times an even map"),
    *("against even", "images"),
)
NUMERIC = 2  # the headings from here are of numbers, but for "against even"
MEANING = (
    "A map says what an answer rests on: how much each place of the input speaks for the class "
    "that the file names. Listed is the share of it that lies in the annotated box, against the "
    "box's share of the area, which is what an even map would have there; the rest lies elsewhere. "
    "Intervals: bootstrap over the images. More than even is not yet a reason: whatever stands "
    "out from its surroundings draws some of any network's map. Occlusion is of the deployed file "
    "in its runtime, the other methods are of the network in torch. Occlusion blurs by the width "
    "of its patch, an eighth of the input's shorter side, and Grad-CAM by a cell of its feature "
    "map: of a box that is no larger than that, much of what is found lies outside."
)
DRAWN = (
    "What the deployed files answer to some of the validation images, as `compress predict --draw` "
    "draws it; the images are in report.html."
)


@dataclass(frozen=True)
class Shown:
    """A method's small images of one row: JPEGs in base64."""

    heading: str
    images: list[str]


@dataclass(frozen=True)
class SaliencyPart:
    """This part of the report, as text; nothing in it is escaped."""

    rows: list[list[str]]
    notes: list[str]
    galleries: list[tuple[str, list[Shown]]]  # by row
    headings: tuple[str, ...] = HEADINGS
    meaning: str = MEANING

    @property
    def numeric(self) -> list[bool]:
        """Return which columns hold numbers."""
        return [
            i >= NUMERIC and heading != "against even" for i, heading in enumerate(self.headings)
        ]


def saliency_part(rows: Sequence[Result]) -> SaliencyPart | None:
    """Return the part; None where no row was looked into."""
    known = [(name(row), row.saliency) for row in rows if row.saliency is not None]
    if not known:
        return None
    explained = any(saliency.looks or saliency.notes for _, saliency in known)
    return SaliencyPart(
        rows=[
            _cells(who, method, saliency)
            for who, saliency in known
            for method in METHODS
            if method in saliency.looks
        ],
        notes=[f"{who}: {note}" for who, saliency in known for note in saliency.notes],
        galleries=[(who, _gallery(saliency)) for who, saliency in known if saliency.gallery],
        meaning=MEANING if explained else DRAWN,
    )


def _cells(who: str, method: SaliencyMethod, saliency: Saliency) -> list[str]:
    looks = saliency.looks[method]
    share = looks.share_inside
    return [
        who,
        METHODS[method],
        f"{units.percent(share.value)} ({units.percent(share.low)} to {units.percent(share.high)})",
        units.percent(saliency.area_share),
        units.times_interval(looks.times_even),
        verdict(looks.times_even),
        _images(looks, saliency),
    ]


def verdict(times_even: Interval) -> str:
    """Say what the interval settles."""
    if times_even.low > 1:
        return "more"
    return "less" if times_even.high < 1 else "not told apart"


def _images(looks: Looks, saliency: Saliency) -> str:
    """Say how many were looked at, and of how many where some maps were empty."""
    of = f" of {saliency.images}" if looks.images < saliency.images else ""
    return f"{looks.images}{of}"


def _gallery(saliency: Saliency) -> list[Shown]:
    headings = {"picture": "image"} | {str(k): v for k, v in METHODS.items()} | {"answer": "answer"}
    return [
        Shown(headings[key], saliency.gallery[key]) for key in headings if key in saliency.gallery
    ]
