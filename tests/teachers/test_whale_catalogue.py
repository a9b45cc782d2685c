"""Described whales: repeatable, told by what is painted, and split so that some are never seen."""

import csv
import filecmp
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compress.tasks import read_for
from compress.tasks.base import Source
from compress.tasks.embedding.packed import unit, unpack
from compress.tasks.embedding.settings import Space
from compress.tasks.embedding.task import Embedding
from teachers import synthetic_whales
from teachers.whale_catalogue import (
    STRIP,
    described_heads,
    sentences,
    traits,
    visible_islands,
    with_new_whales,
)

SMALL = {"individuals": 12, "new": 3, "pictures": 5, "unlabelled": 4, "size": 32, "seed": 3}
SPACE = {"dimension": 16, "words": {"text": "text.txt", "negatives": 1}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("heads")
    described_heads(made, **SMALL)
    return made


def test_the_same_seed_makes_the_same(folder: Path, tmp_path: Path) -> None:
    described_heads(tmp_path, **SMALL)
    names = ["train.csv", "split.csv", "text.txt", *(f"imgs/w_{i:05d}.jpg" for i in range(64))]
    assert filecmp.cmpfiles(folder, tmp_path, names, shallow=False)[0] == names


def test_new_whales_are_described_and_never_trained_on(folder: Path) -> None:
    data = read_for(Embedding, Source(folder), Space.model_validate(SPACE), named=True)
    facts = Embedding.facts(data)
    assert (len(facts["labels"]), len(facts["new"])) == (9, 3)
    assert len(data.indices("unlabelled")) == 4
    trained = Counter((data.images[i].truth or [""])[0] for i in data.indices("train"))
    assert set(trained) == set(facts["labels"]) and set(trained.values()) == {4}
    assert len(data.indices("validation")) == 9 + 3 * 5


def test_new_whales_may_have_more_or_fewer_pictures(tmp_path: Path) -> None:
    described_heads(tmp_path, **SMALL | {"new_pictures": 2})
    data = read_for(Embedding, Source(tmp_path), Space.model_validate(SPACE), named=True)
    new = set(Embedding.facts(data)["new"])
    counts = Counter((image.truth or [""])[0] for image in data.images if image.truth)
    assert {counts[name] for name in new} == {2} and len(new) == 3
    assert {counts[name] for name in counts.keys() - new} == {5}
    with pytest.raises(ValueError, match="not 0"):
        described_heads(tmp_path / "none", **SMALL | {"new_pictures": 0})


def test_what_each_photograph_stretches_is_not_described() -> None:
    """Its slimness rescales widths, so that no bonnet is longer than it is wide in all of them."""
    told = {trait for owner in range(60) for trait in traits(owner, 0)}
    assert not any("long-bonnet" in x or "blunt-bonnet" in x for x in told)


def test_islands_that_a_strip_hides_are_not_described() -> None:
    rng = np.random.default_rng(0)
    hidden = shares = 0
    for owner in range(80):
        blobs = list(synthetic_whales._callosities(synthetic_whales._rng(0, 4, owner)))
        strip = [blob for blob in blobs if blob[2] == STRIP]
        islands = [
            b for b in blobs[1:] if b[2] != STRIP and 0.15 <= b[0] <= 0.75 and abs(b[1]) < 0.25
        ]
        visible = visible_islands(blobs)
        for island in islands:
            points = rng.uniform(-1, 1, (4000, 2))
            points = points[(points**2).sum(1) < 1] * island[2:] + island[:2]
            within = np.zeros(len(points), bool)
            for x, y, along, across in strip:
                within |= ((points - (x, y)) / (along, across)) ** 2 @ np.ones(2) < 1
            if abs(within.mean() - 0.5) > 0.08:  # a coarse grid tells those apart
                assert (island in visible) == (within.mean() < 0.5)
            shares += 1
        hidden += len(islands) - len(visible)
        assert ("no-islands" in traits(owner, 0)) == (not visible)
        assert strip or len(visible) == len(islands)
    assert 0 < hidden < shares / 2


def test_whales_are_told_apart_in_the_text() -> None:
    told = [frozenset(traits(owner, 0)) for owner in range(60)]
    assert len(set(told)) > 55 and {len(x) for x in told} == {12}
    own = [line for line in sentences(60, 0) if "whale_00059" in line.split()]
    assert {word for line in own for word in line.split()} >= told[59]


def test_vectors_of_whales_follow_their_traits(folder: Path) -> None:
    data = read_for(Embedding, Source(folder), Space.model_validate(SPACE), named=True)
    facts = Embedding.facts(data)
    names = [*facts["labels"], *facts["new"]]
    told = [set(traits(int(name[-5:]), 3)) for name in names]
    shared = np.array([[len(a & b) for b in told] for a in told], float)
    near = unit(unpack(facts["vectors"]))
    apart = ~np.eye(len(names), dtype=bool)
    assert np.corrcoef(shared[apart], (near @ near.T)[apart])[0, 1] > 0.7


def test_traits_say_what_is_painted() -> None:
    """Where a side of the chin is said to be covered it is; a lip may reach there, too."""
    agreed = []
    texture = {x: np.asarray(synthetic_whales._callosity_texture(x, 0))[..., 0] for x in range(40)}
    u, v = synthetic_whales._plane(synthetic_whales._HEAD_ORIGIN, synthetic_whales._HEAD_TEXELS)
    for owner, cover in texture.items():
        facts = traits(owner, 0)
        for side, sign in (("left", -1), ("right", 1)):
            there = (u > 0.95) & (sign * v > 0.22) & (sign * v < 0.5)
            bare = f"bare-{side}-chin" in facts
            agreed.append((cover[there].max() > 128) != bare)
    assert np.mean(agreed) > 0.9


def test_real_heads_get_a_split_with_new_whales(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "imgs").mkdir(parents=True)
    rows = [[f"{i}.png", f"w{i % 6}"] for i in range(13)]
    rows.append(["13.png", "once"])
    for name, _ in rows:
        Image.new("RGB", (8, 8)).save(source / "imgs" / name)
    split = [[name, "validation" if i in (6, 7) else "train"] for i, (name, _) in enumerate(rows)]
    for file, lines in (("train.csv", [["Image", "whaleID"], *rows]),
                        ("split.csv", [["Image", "split"], *split])):  # fmt: skip
        with (source / file).open("w", newline="") as out:
            csv.writer(out).writerows(lines)
    (tmp_path / "made").mkdir()
    with_new_whales(tmp_path / "made", source=source, new=2)
    data = read_for(Embedding, Source(tmp_path / "made"), Space(), named=True)
    facts = Embedding.facts(data)
    assert len(facts["new"]) == 2 and "once" in facts["labels"]
    with pytest.raises(ValueError, match="6 have two pictures"):
        with_new_whales(tmp_path / "made", source=source, new=6)
