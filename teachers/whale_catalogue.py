"""Whales that are described: aligned heads, and a text that says of each whale what it looks like.

A catalogue describes whales in words: how broad the bonnet is, whether a strip runs behind it,
which islands are seen, what lies at the blowhead, the chin, the lips and the eyebrows. Here they
are drawn from the very pattern that is painted, and some whales are described whose pictures nobody
trains on. The length of a bonnet is left out: each photograph stretches widths by its own factor.

`with_new_whales` makes such a split of real heads, of which there are no descriptions.
"""

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from compress.data.tables import read_csv
from teachers import synthetic_whales as whales

Blob = tuple[float, float, float, float]  # centre and half axes: along, across, along, across
STRIP = 0.075  # half the length of a strip's blobs, in head lengths; no other blob has it exactly
GRID = np.mgrid[-4:5, -4:5].reshape(2, -1).T / 4.5
DISC = GRID[(GRID**2).sum(1) < 1]  # points spread evenly over the unit disc
SIDES = {-1: "left", 1: "right"}  # of v, seen along the whale
TIMES = 4  # that each fact is said, in other sentences
VALIDATION = 4  # one picture of so many is for validation
FRAMES = (
    "{0} has {1}", "{1} is seen on {0}", "we know {0} by {1}", "look for {1} on {0}",
    "{0} with {1}", "{1} marks {0}", "the catalogue gives {1} for {0}", "{0} shows {1}",
)  # fmt: skip
PAIRS = ("{0} has {1} and {2}", "{1} beside {2} on {0}", "{2} like {0} with {1}")


def described_heads(
    folder: Path,
    *,
    individuals: int = 200,
    new: int = 40,
    pictures: int = 12,
    new_pictures: int | None = None,
    unlabelled: int = 0,
    size: int = 64,
    seed: int = 0,
) -> None:
    """Writes aligned heads (size x size JPEG), train.csv, split.csv and text.txt.

    Args:
        new: of the individuals, those that are only validated on; the text describes them, too.
        pictures: of each individual.
        new_pictures: of each new one; without it, as many as of the others.
        unlabelled: further pictures, of individuals that are trained on, only in imgs/.
    """
    if new_pictures is None:
        new_pictures = pictures
    if not 0 <= new < individuals or pictures < 2:
        raise ValueError(f"{new} of {individuals} whales cannot be new, with {pictures} pictures")
    if new_pictures < 1:
        raise ValueError(f"a new whale needs a picture at least, not {new_pictures}")
    rng = np.random.default_rng([seed, 9])
    order = rng.permutation(individuals)
    known = order[new:]
    counts = [new_pictures] * new + [pictures] * len(known)
    labelled = rng.permutation(np.repeat(order, counts))
    owners = [int(x) for x in (*labelled, *rng.choice(known, unlabelled))]
    whales._write_pictures(
        folder, owners, (size, size), lambda c: whales._points_in_crop(c, size), seed
    )
    whales._write_table(folder / "train.csv", "", owners[: len(labelled)], [()] * len(labelled))
    _write_split(folder, [_name(x) for x in labelled], {_name(x) for x in order[:new]})
    lines = list(sentences(individuals, seed))
    (folder / "text.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def with_new_whales(folder: Path, *, source: Path, new: int = 60, seed: int = 0) -> None:
    """Writes links to real heads, their train.csv, and a split in which some whales are new.

    All pictures of these are for validation. The others' stay where the source's split has them.
    Pictures without a label may show new whales: who trains on them has seen those.

    Args:
        source: a folder with train.csv (Image,whaleID), split.csv and imgs/.
        new: how many whales, of those with two pictures or more.
    """
    rows = read_csv(source / "train.csv").rows
    split = {row["Image"]: row["split"] for row in read_csv(source / "split.csv").rows}
    counts = Counter(row["whaleID"] for row in rows)
    several = sorted(name for name, count in counts.items() if count > 1)
    if new >= len(several):
        raise ValueError(f"{new} new whales, and {len(several)} have two pictures or more")
    chosen = set(np.random.default_rng(seed).permutation(several)[:new].tolist())
    os.symlink((source / "imgs").resolve(), folder / "imgs", target_is_directory=True)
    (folder / "train.csv").write_bytes((source / "train.csv").read_bytes())
    lines = [
        [row["Image"], "validation" if row["whaleID"] in chosen else split[row["Image"]]]
        for row in rows
    ]
    _write_csv(folder / "split.csv", ["Image", "split"], lines)


def traits(owner: int, seed: int) -> list[str]:
    """Return what a catalogue says of an individual, a word or compound each, always as many."""
    blobs = list(whales._callosities(whales._rng(seed, 4, owner)))
    width = blobs[0][3]
    strip, islands = _strip(blobs), visible_islands(blobs)
    found = [f"{'narrow' if width < 0.14 else 'broad' if width > 0.17 else 'middling'}-bonnet"]
    begun = min((along for along, *_ in strip), default=0.0)
    found.append("no-strip" if not strip else "long-strip" if begun < 0.26 else "short-strip")
    if islands:
        many = sum(across for *_, across in islands) > 0.14
        found.append(f"{'large' if many else 'small'}-islands")
        far = [along for along, *_ in islands]
        found.append("islands-ahead" if np.mean(far) > 0.45 else "islands-behind")
    else:
        found += ["no-islands", "islands-nowhere"]
    return found + [word for side in SIDES for word in _beside(blobs, side)]


def visible_islands(blobs: Sequence[Blob]) -> list[Blob]:
    """Return the islands behind the bonnet, but for those that lie in the strip by half or more."""
    strip = _strip(blobs)
    islands = [b for b in blobs[1:] if b[2] != STRIP and 0.15 <= b[0] <= 0.75 and abs(b[1]) < 0.25]
    return [island for island in islands if _share_within(island, strip) < 0.5]


def _strip(blobs: Sequence[Blob]) -> list[Blob]:
    return [blob for blob in blobs if blob[2] == STRIP]


def _share_within(blob: Blob, others: Sequence[Blob]) -> float:
    """Return the share of a blob's area that others cover, 0 to 1."""
    points = DISC * blob[2:] + blob[:2]
    within = np.zeros(len(points), bool)
    for other in others:
        within |= (((points - other[:2]) / other[2:]) ** 2).sum(1) <= 1
    return float(within.mean())


def sentences(individuals: int, seed: int) -> Iterator[str]:
    """Yield a text of short sentences about individuals, in random order."""
    rng = np.random.default_rng([seed, 10])
    lines = []
    for owner in range(individuals):
        facts = traits(owner, seed)
        for fact in facts:
            lines += [x.format(_name(owner), fact) for x in rng.choice(FRAMES, TIMES, False)]
        for _ in range(len(facts)):
            one, other = rng.choice(facts, 2, False)
            lines.append(str(rng.choice(PAIRS)).format(_name(owner), one, other))
    yield from rng.permutation(lines).tolist()


def _beside(blobs: Sequence[Blob], side: int) -> Iterator[str]:
    """Yield what lies on one side of the head: something at each place, or nothing."""
    own = [(along, side * across) for along, across, *_ in blobs[1:] if side * across > 0]
    at = {
        "blowhead": [x for x, y in own if x < 0.15 and 0.05 < y < 0.3],
        "chin": [x for x, y in own if x > 0.95 and y > 0.2],
        "eyebrow": [x for x, y in own if x < 0.3 and y > 0.47],
        "lip": [x for x, y in own if 0.3 <= x <= 0.95 and y > 0.3],
    }
    for place, found in at.items():
        yield f"{SIDES[side]}-{place}" if found else f"bare-{SIDES[side]}-{place}"


def _write_split(folder: Path, names: Sequence[str], new: set[str]) -> None:
    """Writes split.csv: of whales that are not new, every fourth picture is for validation."""
    seen: defaultdict[str, int] = defaultdict(int)
    rows = []
    for number, name in enumerate(names):
        held = name in new or seen[name] % VALIDATION == VALIDATION - 1
        rows.append([whales._name(number), "validation" if held else "train"])
        seen[name] += 1
    _write_csv(folder / "split.csv", ["Image", "split"], rows)


def _write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _name(owner: int) -> str:
    """Return what a whale is called, in the table as in the text."""
    return f"whale_{owner:05d}"
