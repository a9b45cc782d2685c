"""A shared space: how labels and words are read, what is learned, how neighbours are judged."""

import json
import math
import os
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec
from compress.data.split import draw_split
from compress.metrics.accuracy import agreement
from compress.metrics.keypoints import USUAL
from compress.metrics.resampling import interval
from compress.recipe.schema import DataSettings
from compress.tasks import read_for, task_of
from compress.tasks.base import Source
from compress.tasks.embedding import losses
from compress.tasks.embedding.packed import pack, unit, unpack
from compress.tasks.embedding.settings import Cosine, Relational, Space
from compress.tasks.embedding.task import Embedding
from compress.tasks.embedding.text import co_occurrences, factors, learn_vectors, shifted_ppmi
from compress.tasks.embedding.vectors import read_vectors
from compress.tasks.embedding.words import label_vectors
from compress.utils.errors import UserError
from compress.workflow.stages.data import plan
from tests.tasks.told_apart import NEW, THINGS, squares

WORDS = {"text": "text.txt", "negatives": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("data") / "squares")


def space(**settings: Any) -> Space:
    return Space.model_validate({"dimension": 16} | settings)


def read(folder: Path, **settings: Any) -> Dataset:
    return read_for(Embedding, Source(folder), space(**settings), named=True)


def task_for(data: Dataset, fitted: Any = None) -> Embedding:
    predicted = Embedding.predicts(data)["predicted"].model_copy(update={"fitted": fitted})
    spec = InputSpec(height=32, width=32, mean=(0, 0, 0), std=(1, 1, 1), predicted=predicted)
    task = task_of(spec)
    assert isinstance(task, Embedding)
    return task


def vectors_of(count: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32))


# Reading


def test_labels_never_trained_on_are_known_as_such(folder: Path) -> None:
    data = draw_split(read(folder), 0.25, 0)
    facts = Embedding.facts(data)
    assert facts == {"labels": sorted({*THINGS} - {*NEW}), "new": list(NEW)}
    assert any("1 labels are never trained on: green_middle" in x for x in data.notes)
    targets = task_for(data).targets(data)
    assert targets.shape == (len(data.images), 1)
    new = [i for i, image in enumerate(data.images) if image.truth == list(NEW)]
    assert (targets[new] == -1).all() and (targets[data.indices("train")] >= 0).all()
    assert (targets[data.indices("unlabelled")] == -1).all()


def test_a_dataset_is_the_same_when_it_was_stored(folder: Path, tmp_path: Path) -> None:
    data = read(folder, words=WORDS)
    data.save(tmp_path)
    assert Dataset.load(tmp_path, folder) == data
    assert Embedding.facts(Dataset.load(tmp_path, folder)) == Embedding.facts(data)


def test_several_labels_an_image(tmp_path: Path, folder: Path) -> None:
    table = "Image,tags\nimgs/000.png,red_above;blue_below\nimgs/001.png,red_above\n"
    (tmp_path / "imgs").symlink_to(folder / "imgs")
    (tmp_path / "text.txt").write_text((folder / "text.txt").read_text("utf-8"), encoding="utf-8")
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    data = read(tmp_path, words=WORDS, separator=";", more_labels=["green_middle"])
    facts = Embedding.facts(data)
    assert facts["labels"] == ["blue_below", "red_above"] and facts["new"] == ["green_middle"]
    assert task_for(data).targets(data)[:2].tolist() == [[0, 1], [1, -1]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": {"name": "cosine"}}, "cosine is none of identities: choose arcface"),
        ({"words": WORDS, "loss": {"name": "arcface"}}, "none towards words: choose cosine"),
        ({"separator": ";"}, "name words, or remove it"),
        ({"more_labels": ["x"]}, "known by their words alone"),
        ({"dimension": 8}, "greater than or equal to 16"),
    ],
)
def test_settings_that_do_not_fit_together(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        space(**settings)


# Words


def word2vec(path: Path, words: dict[str, np.ndarray]) -> Path:
    size = len(next(iter(words.values())))
    raw = b"".join(f"{w} ".encode() + x.astype("<f4").tobytes() + b"\n" for w, x in words.items())
    path.write_bytes(f"{len(words)} {size}\n".encode() + raw)
    return path


def as_text(path: Path, words: dict[str, np.ndarray], header: bool) -> Path:
    size = len(next(iter(words.values())))
    lines = [f"{len(words)} {size}"] * header
    lines += [f"{word} {' '.join(map(repr, vector.tolist()))}" for word, vector in words.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_word2vec_text_and_binary_and_glove_are_read_alike(tmp_path: Path) -> None:
    known = dict(zip(["seal", "grey", "größe", ". . ."], vectors_of(4), strict=True))
    one_word = {word: vector for word, vector in known.items() if " " not in word}
    for path, words in (
        (word2vec(tmp_path / "w.bin", one_word), one_word),
        (as_text(tmp_path / "w.txt", one_word, header=True), one_word),
        (as_text(tmp_path / "glove.txt", known, header=False), known),
    ):
        found = read_vectors(path, lambda word: word != "grey")
        assert set(found) == {*words} - {"grey"}
        for word, vector in found.items():
            np.testing.assert_array_equal(vector, words[word])


def test_gensim_reads_what_we_take_for_its_formats(tmp_path: Path) -> None:
    gensim = pytest.importorskip("gensim.models")
    words = dict(zip(["a", "b", "c"], vectors_of(3), strict=True))
    model = gensim.KeyedVectors(16)
    model.add_vectors(list(words), np.stack([*words.values()]))
    for binary in (True, False):
        model.save_word2vec_format(str(tmp_path / "v"), binary=binary)
        found = read_vectors(tmp_path / "v", lambda word: True)
        assert list(found) == list(words)
        np.testing.assert_allclose(found["b"], words["b"], atol=1e-6)


def test_vectors_of_two_lengths_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("a 1 2 3\nb 1 2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"v.txt:2: expected a word and 3 numbers, and there are 2"):
        read_vectors(path, lambda word: True)
    path.write_text("a 1 2 3\nb 1 2 3 4\n", encoding="utf-8")
    with pytest.raises(UserError, match="all vectors of a file have one length"):
        read_vectors(path, lambda word: True)
    word2vec(path, {"a": np.ones(16), "b": np.ones(16)})
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="ends within vector 2 of 2"):
        read_vectors(path, lambda word: True)


def test_vectors_of_another_length_than_the_space_are_refused(folder: Path, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(len(THINGS), 24))
    known = dict(zip(THINGS, vectors, strict=True))
    path = as_text(tmp_path / "v.txt", known, header=False)
    with pytest.raises(UserError, match="have 24 numbers, and dimension is 16: set dimension: 24"):
        read(folder, words={"file": str(path)})


def named_images(folder: Path, labels: list[str]) -> Path:
    for number, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        source = Path(__file__).parent  # any bytes: nothing is decoded here
        (folder / label / f"{number}.png").write_bytes(str(source).encode())
    return folder


def test_words_without_a_vector_are_listed_and_refused_past_a_twentieth(tmp_path: Path) -> None:
    labels = [f"thing{i:02d}" for i in range(40)]
    folder = named_images(tmp_path / "data", labels)
    known = dict(zip(labels[:-2], vectors_of(38), strict=True))
    few = as_text(tmp_path / "most.txt", known, header=False)
    data = read(folder, words={"file": str(few)})
    assert "labels without a vector are left out: thing38, thing39" in data.notes
    assert [image.split for image in data.images if image.label is None] == ["unlabelled"] * 2
    fewer = as_text(tmp_path / "fewer.txt", dict([*known.items()][:-1]), header=False)
    with pytest.raises(UserError, match=r"3 of 40 labels have no vector .* thing37, thing38, thin"):
        read(folder, words={"file": str(fewer)})


def test_labels_of_several_words(tmp_path: Path) -> None:
    words = dict(zip(["grey", "seal", "harbour_seal", "sea"], vectors_of(4), strict=True))
    path = as_text(tmp_path / "v.txt", words, header=False)
    asked = ["Grey seal", "harbour seal", "sea"]
    found = label_vectors(asked, space(words={"file": str(path)}), tmp_path)
    np.testing.assert_allclose(found[0], unit((words["grey"] + words["seal"])[None])[0], atol=1e-6)
    np.testing.assert_allclose(found[1], words["harbour_seal"], atol=1e-6)  # it has its own
    with pytest.raises(UserError, match=r"1 of 2 labels have no vector .*: grey otter"):
        named_images(tmp_path / "data", ["grey otter", "sea"])
        read(tmp_path / "data", words={"file": str(path)})


def test_shifted_ppmi_is_the_formula() -> None:
    sentences = [["a", "b", "c", "a"], ["b", "c"], ["c", "d", "a"]]
    words = ["a", "b", "c", "d"]
    counts = np.zeros((4, 4))
    for sentence in sentences:
        for i, x in enumerate(sentence):
            for j, y in enumerate(sentence):
                if i != j and abs(i - j) <= 2:
                    counts[words.index(x), words.index(y)] += 1
    found = co_occurrences(sentences, words, 2)
    np.testing.assert_array_equal(found.toarray(), counts)
    p = counts / counts.sum()
    with np.errstate(divide="ignore"):
        shifted = np.log(p / np.outer(p.sum(1), p.sum(1))) - math.log(1.1)
    ppmi = shifted_ppmi(found, 1.1)  # type: ignore[arg-type]
    np.testing.assert_allclose(ppmi.toarray(), np.maximum(shifted, 0), atol=1e-12)

    u, s, _ = np.linalg.svd(ppmi.toarray())
    got = factors(ppmi, 2)
    for column, own, size in zip(got.T[::-1], u.T, s, strict=False):
        assert abs(abs(column @ own) - math.sqrt(size)) < 1e-9


@pytest.mark.parametrize("method", ["ppmi", "skip_gram"])
def test_things_are_near_what_is_like_them(folder: Path, method: str) -> None:
    if method == "skip_gram":
        pytest.importorskip("gensim")
    words = {"text": "text.txt", "method": method, "negatives": 1 if method == "ppmi" else 5}
    known = learn_vectors(folder / "text.txt", space(words=words).words, 16)  # type: ignore[arg-type]
    near = {x: unit(known[x][None])[0] @ unit(known["red_above"][None])[0] for x in THINGS}
    if method == "ppmi":  # skip-gram wants more text than this to tell them apart
        assert min(near["red_below"], near["blue_above"]) > near["blue_below"]
    assert near["red_above"] == pytest.approx(1, abs=1e-5)
    again = learn_vectors(folder / "text.txt", space(words=words).words, 16)  # type: ignore[arg-type]
    np.testing.assert_array_equal(known["red_above"], again["red_above"])


def test_images_with_several_labels_are_drawn_into_a_split(tmp_path: Path, folder: Path) -> None:
    rows = ["red_above"] * 10 + ["blue_below"] * 10 + ["red_above;blue_below"] * 10
    table = "".join(f"imgs/{i:03}.png,{label}\n" for i, label in enumerate(rows))
    (tmp_path / "imgs").symlink_to(folder / "imgs")
    (tmp_path / "text.txt").write_text((folder / "text.txt").read_text("utf-8"), encoding="utf-8")
    (tmp_path / "labels.csv").write_text(f"Image,tags\n{table}", encoding="utf-8")
    data = draw_split(read(tmp_path, words=WORDS, separator=";"), 0.25, 0)
    several = [x.split for x in data.images if len(x.truth or ()) == 2]
    assert len(several) == 10 and set(several) == {"train", "validation"}


def test_texts_that_teach_nothing(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "t.txt").write_text("few words here\n", encoding="utf-8")
    few = space(words={"text": "t.txt"}).words
    with pytest.raises(UserError, match="3 different words, too few for vectors of 16 numbers"):
        learn_vectors(tmp_path / "t.txt", few, 16)  # type: ignore[arg-type]
    for sentence in ("a picture of a thing{} in the sea", "thing{}"):
        text = "\n".join(sentence.format(i) for i in range(30))
        (tmp_path / "t.txt").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="no two words stand together more than 5 times"):
            learn_vectors(tmp_path / "t.txt", few, 16)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="cannot be read as a text"):
        read(folder, words={"text": "nowhere.txt"})
    with pytest.raises(UserError, match="no file of word vectors at"):
        read(folder, words={"file": "nowhere.txt"})


# Losses, against independent formulas; gradients by finite differences


def targets_of(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows)


def test_cosine_and_hinge_rank_are_the_formulas() -> None:
    words = torch.from_numpy(vectors_of(5, 1)).double()
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 16))).requires_grad_()
    targets = targets_of([2, 4], [0, -1], [-1, -1])
    v = (vectors / vectors.norm(dim=1, keepdim=True)).detach().numpy()
    w = words.numpy()
    both = unit((w[2] + w[4])[None])[0]
    wanted = np.mean([1 - v[0] @ both, 1 - v[1] @ w[0]])
    found = losses.cosine(vectors, targets, words)
    assert float(found.detach()) == pytest.approx(wanted)

    def rank(i: int, own: int, all_own: set[int]) -> float:
        others = [max(0, 0.3 - v[i] @ w[own] + v[i] @ w[k]) for k in {*range(5)} - all_own]
        return float(np.sum(others))

    wanted = np.mean([(rank(0, 2, {2, 4}) + rank(0, 4, {2, 4})) / 2, rank(1, 0, {0})])
    assert float(losses.hinge_rank(vectors, targets, words, 0.3).detach()) == pytest.approx(wanted)
    nobody = targets_of([-1], [-1], [-1])
    for loss in (losses.cosine, lambda *given: losses.hinge_rank(*given, 0.3)):
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, targets, words), vectors)
        assert float(loss(vectors, nobody, words).detach()) == 0


def test_relational_is_park_et_al() -> None:
    rng = np.random.default_rng(0)
    student = torch.from_numpy(rng.normal(size=(5, 16))).requires_grad_()
    teacher = torch.from_numpy(rng.normal(size=(5, 16)))
    s, t = (F.normalize(x.detach()).numpy() for x in (student, teacher))

    def huber(x: float) -> float:
        return 0.5 * x**2 if abs(x) < 1 else abs(x) - 0.5

    def distances(x: np.ndarray) -> list[float]:
        found = [np.linalg.norm(x[i] - x[j]) for i in range(5) for j in range(5) if i != j]
        return list(found / np.mean(found))

    def angles(x: np.ndarray) -> list[float]:
        found = []
        for j in range(5):
            for i in range(5):
                for k in range(5):
                    a, b = x[i] - x[j], x[k] - x[j]
                    length = np.linalg.norm(a) * np.linalg.norm(b)
                    found.append(a @ b / length if length else 0.0)
        return found

    wanted = 1.5 * np.mean([huber(a - b) for a, b in zip(distances(s), distances(t), strict=True)])
    wanted += 2 * np.mean([huber(a - b) for a, b in zip(angles(s), angles(t), strict=True)])
    assert float(losses.relational(student, teacher, 1.5, 2.0).detach()) == pytest.approx(wanted)
    assert torch.autograd.gradcheck(lambda x: losses.relational(x, teacher, 1.0, 2.0), student)
    turn = torch.linalg.qr(torch.from_numpy(rng.normal(size=(16, 16))))[0]
    assert float(losses.relational(teacher @ turn, teacher, 1.0, 2.0)) == pytest.approx(0, abs=1e-9)
    assert float(losses.same_direction(3 * teacher, teacher)) == pytest.approx(0)


@pytest.mark.parametrize("name", ["arcface", "cosface", "proxy_anchor", "supcon"])
def test_losses_of_identities_learn_and_count_the_labelled_alone(folder: Path, name: str) -> None:
    pytest.importorskip("pytorch_metric_learning")
    data = read(folder, loss={"name": name})
    loss = task_for(data).label_loss(0.0)
    assert isinstance(loss, torch.nn.Module)
    assert bool(list(loss.parameters())) == (name != "supcon")
    vectors = torch.from_numpy(vectors_of(6)).requires_grad_()
    some = targets_of([0], [0], [1], [1], [-1], [-1])
    value = loss({"vector": vectors}, some)
    (gradient,) = torch.autograd.grad(value, vectors)
    assert (
        float(value.detach()) > 0
        and (gradient[:4].norm(dim=1) > 0).all()
        and (gradient[4:] == 0).all()
    )
    assert float(loss({"vector": vectors}, torch.full((6, 1), -1))) == 0


def test_arcface_is_the_formula(folder: Path) -> None:
    pytest.importorskip("pytorch_metric_learning")
    settings = {"name": "arcface", "margin_degrees": 20.0, "scale": 8.0}
    loss = task_for(read(folder, loss=settings)).label_loss(0.0)
    vectors = torch.from_numpy(vectors_of(4))
    targets = targets_of([0], [3], [1], [0])
    assert isinstance(loss, torch.nn.Module)
    near = vectors @ F.normalize(next(loss.parameters()).detach(), dim=0)
    own = near.gather(1, targets)
    moved = torch.cos(torch.acos(own) + math.radians(20))
    logits = 8 * near.scatter(1, targets, moved)
    wanted = F.cross_entropy(logits, targets[:, 0])
    assert float(loss({"vector": vectors}, targets)) == pytest.approx(float(wanted), rel=1e-4)


def test_distances_alone_do_not_find_words(folder: Path) -> None:
    task = task_for(read(folder, words=WORDS))
    with pytest.raises(UserError, match=r"turns the space, .*: choose cosine"):
        task.teacher_loss(Relational(name="relational"))
    same = torch.from_numpy(vectors_of(3))
    given = {"vector": same}
    assert float(task.teacher_loss(Cosine())(given, given, same)) == pytest.approx(0, abs=1e-6)


# Judging


def gallery_of(task: Embedding, data: Dataset, seed: int) -> tuple[Any, np.ndarray]:
    vectors = vectors_of(len(data.images), seed)
    return task.fit(lambda indices: {"vector": vectors[indices]}, data), vectors


def test_neighbours_are_those_of_scikit_learn(folder: Path) -> None:
    data = read(folder)
    fitted, vectors = gallery_of(task_for(data), data, 5)
    task = task_for(data, json.loads(json.dumps(fitted)))
    judged, training = data.indices("validation"), data.indices("train")
    vectors[training] = unpack(fitted["vectors"])
    found = task.judge(data, judged)({"vector": vectors[judged]})
    names = np.array([(image.truth or [""])[0] for image in data.images])
    newcomer = next(i for i in judged if names[i] in NEW)
    catalogue = [*training, newcomer]
    assert [i for i, x in zip(judged, found, strict=True) if not x] == [newcomer]

    nearest = KNeighborsClassifier(1, metric="cosine", algorithm="brute")
    nearest.fit(vectors[catalogue], names[catalogue])
    asked = np.array([i for i in judged if i != newcomer])
    right = nearest.predict(vectors[asked]) == names[asked]
    value = float(task.statistic(found, np.ones((1, len(found))))[0])
    assert value == pytest.approx(right.mean()) and 0 < value < 1
    precise = [
        average_precision_score(names[catalogue] == names[i], vectors[i] @ vectors[catalogue].T)
        for i in asked
    ]
    metrics = {metric.name: metric for metric in task.further(found)}
    assert metrics["mAP %"].value == pytest.approx(100 * np.mean(precise), abs=1e-3)
    own = interval(lambda w: task.statistic([x for x in found if x], w), len(asked))
    precision = metrics["mAP %"].interval
    assert own.low <= value <= own.high
    assert precision is not None and precision.value == metrics["mAP %"].value
    assert precision.low < precision.value < precision.high
    fifth = [
        names[i] in names[np.array(catalogue)[np.argsort(-(vectors[catalogue] @ vectors[i]))[:5]]]
        for i in asked
    ]
    assert metrics["recall@5 %"].value == pytest.approx(100 * np.mean(fifth))
    new = [i for i in asked if names[i] in NEW]
    of_known = right[[names[i] not in NEW for i in asked]]
    assert metrics["of known labels %"].value == pytest.approx(100 * of_known.mean())
    assert f"{len(of_known)} images whose labels were trained on" in (
        metrics["of known labels %"].meaning
    )
    assert f"of {len(new)} images" in metrics["zero-shot %"].meaning
    assert metrics["zero-shot among new %"].value == 100  # there is one such label alone


def test_it_is_known_how_many_keep_their_nearest(folder: Path) -> None:
    data = read(folder)
    fitted, vectors = gallery_of(task_for(data), data, 5)
    task, judged = task_for(data, json.loads(json.dumps(fitted))), data.indices("validation")
    catalogue = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute")
    catalogue.fit(unpack(fitted["vectors"]))
    blurred = vectors + np.random.default_rng(0).normal(size=vectors.shape, scale=0.3)
    scored = [
        task.score(lambda i, x=x: {"vector": x[i]}, data, judged, USUAL, True)
        for x in (vectors, blurred)
    ]
    nearest = [
        catalogue.kneighbors(x[judged], return_distance=False)[:, 0] for x in (vectors, blurred)
    ]
    assert [found.answers for found in scored] == [x.tolist() for x in nearest]
    kept = agreement(scored[0].answers, scored[1].answers)
    assert kept == pytest.approx(np.mean(nearest[0] == nearest[1])) and 0 < kept < 1


def test_an_image_of_the_gallery_is_not_its_own_neighbour(folder: Path) -> None:
    data = read(folder)
    fitted, vectors = gallery_of(task_for(data), data, 6)
    task, training = task_for(data, fitted), data.indices("train")
    vectors[training] = unpack(fitted["vectors"])
    (found,) = task.judge(data, training[:1])({"vector": vectors[training[:1]]})
    rest = training[1:]
    near = vectors[rest] @ vectors[training[0]]
    names = np.array([(data.images[i].truth or [""])[0] for i in rest])
    best = near[names == (data.images[training[0]].truth or [""])[0]].max()
    assert found[0] == (near > best).sum()


def test_another_image_of_the_same_name_is_a_neighbour(folder: Path) -> None:
    """Folders of one layout have the same names in them: a season's images, and the next one's."""
    data = read(folder)
    fitted, vectors = gallery_of(task_for(data), data, 6)
    task, first = task_for(data, fitted), data.indices("train")[:1]
    other = vectors[first] + 0.2 * vectors_of(1, 7)
    near = unpack(fitted["vectors"]) @ unit(other)[0]
    right = np.array(fitted["labels"]) == fitted["labels"][0]
    (found,) = task.judge(data, first)({"vector": other})
    assert near.argmax() == 0 and found[0] == 0
    assert found[1] == pytest.approx(average_precision_score(right, near), abs=1e-6)


def test_a_newcomer_is_not_its_own_neighbour_whatever_its_vector_is(folder: Path) -> None:
    data = read(folder)
    fitted, _ = gallery_of(task_for(data), data, 6)
    judged = data.indices("validation")
    newcomer = next(i for i in judged if data.images[i].truth == list(NEW))
    (found,) = task_for(data, fitted).judge(data, np.array([newcomer]))(
        {"vector": np.zeros((1, 16))}
    )
    assert found == []


def test_images_whose_names_are_no_text_lie_in_galleries(tmp_path: Path) -> None:
    """As archives from other systems leave them."""
    for label, number in product("ab", range(4)):
        (tmp_path / label).mkdir(exist_ok=True)
        name = os.fsdecode(b"caf\xe9 %d.png" % number)  # Latin-1
        (tmp_path / label / name).write_bytes(b"nothing is decoded here")
    data = draw_split(read(tmp_path), 0.25, 0)
    fitted, vectors = gallery_of(task_for(data), data, 6)
    assert "caf\\udce9" in fitted["images"][0]
    task, training = task_for(data, fitted), data.indices("train")
    assert InputSpec.model_validate_json(task.spec.model_dump_json()) == task.spec
    found = task.judge(data, training)({"vector": vectors[training]})
    for i, each in zip(training, found, strict=True):  # none is its own neighbour
        rest = training[training != i]
        names = np.array([data.images[k].truth for k in rest])[:, 0]
        right = names == (data.images[i].truth or [""])[0]
        expected = average_precision_score(right, vectors[rest] @ vectors[i])
        assert each[1] == pytest.approx(expected, abs=1e-3)


def test_while_it_trains_images_are_each_others_gallery(folder: Path) -> None:
    data = read(folder)
    task, chosen = task_for(data), np.array([0, 1, len(THINGS), 2])  # the first and third are alike
    vectors = vectors_of(4)
    found = task.judge(data, chosen)({"vector": vectors})
    near = vectors @ vectors.T
    assert found[1] == [] and found[3] == []
    assert found[0][0] == (near[0, [1, 3]] > near[0, 2]).sum()
    assert float(task.statistic([[], []], np.ones((1, 2)))[0]) == 0


def test_nearest_labels_and_those_never_trained_on(folder: Path) -> None:
    data = read(folder, words=WORDS)
    task, judged = task_for(data), data.indices("validation")
    facts = task.spec.predicted
    assert facts is not None
    words = unpack(facts.facts["vectors"])
    labels = [*facts.facts["labels"], *facts.facts["new"]]
    truth = [(data.images[i].truth or [""])[0] for i in judged]
    exact = words[[labels.index(x) for x in truth]]
    found = task.judge(data, judged)({"vector": 2 * exact})
    assert float(task.statistic(found, np.ones((1, len(found))))[0]) == 1
    assert {metric.name: metric.value for metric in task.further(found)} == {
        "recall@5 %": 100,
        "mAP %": 100,
        "of known labels %": 100,
        "zero-shot %": 100,
        "zero-shot among new %": 100,
    }
    first = words[[0]]
    (near,) = task.answers({"vector": first}, [Path("x.png")])
    told = task.first(near, None)
    assert told[0].label == labels[0] and len(told) == 5 < len(near)
    assert [row["rank"] for row in task.rows(task.first(near, 2))] == [1, 2]
    assert task.rows(told)[0]["class"] == labels[0] and task.rows(told)[0]["nearest"] == ""
    assert task.lines(told)[0] == f"  1.000  {labels[0]}"
    assert task.fit(lambda indices: {}, data) is None
    moved = {"vector": words[[0, 1]]}, {"vector": words[[0, 2]]}
    assert task.changed_answers(*moved) == 1


def test_labels_never_trained_on_are_drawn_whole() -> None:
    """Against the variance of a ratio of sums over clusters (Cochran 1977, eq. 6.13)."""
    rng = np.random.default_rng(2)
    counts = rng.integers(4, 14, 300)
    hits = rng.binomial(counts, rng.beta(0.3, 0.6, 300))
    records = [
        [int(i >= hit), 0.5, int(i >= hit), f"whale {whale}"]
        for whale, (count, hit) in enumerate(zip(counts, hits, strict=True))
        for i in range(count)
    ]
    metrics = {x.name: x for x in Embedding.further(records)}
    share = hits.sum() / counts.sum()
    apart = hits - share * counts
    error = np.sqrt(300 / 299 * (apart**2).sum()) / counts.sum()
    for name in ("zero-shot %", "zero-shot among new %"):
        found = metrics[name].interval
        assert found is not None and found.value == pytest.approx(100 * share)
        assert (found.high - found.low) / 2 == pytest.approx(196 * error, rel=0.08)
        assert "of 300 labels" in metrics[name].meaning
    by_image = np.sqrt(share * (1 - share) / counts.sum())
    assert error > 1.8 * by_image  # what images drawn one by one would have said


def test_vectors_are_kept_in_half_precision() -> None:
    vectors = vectors_of(20)
    again = unpack(json.loads(json.dumps(pack(vectors))))
    np.testing.assert_allclose(again, vectors, atol=5e-4)
    np.testing.assert_allclose(np.linalg.norm(again, axis=1), 1, atol=1e-6)


def test_an_empty_gallery_is_refused(folder: Path) -> None:
    data = read(folder)
    with pytest.raises(UserError, match="an empty gallery finds nothing"):
        task_for(data).gallery(lambda indices: {}, data, np.empty(0, np.int64))


def test_galleries_are_for_models_of_vectors(folder: Path) -> None:
    spec = InputSpec(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1), classes=("a", "b"))
    with pytest.raises(UserError, match="models of vectors, and this one predicts 2 classes"):
        task_of(spec).gallery(lambda indices: {}, read(folder), np.arange(2))


def test_another_text_is_another_dataset(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text((folder / "text.txt").read_text("utf-8"), encoding="utf-8")

    def key(words: dict[str, str]) -> str:
        task = {"embedding": {"dimension": 16, "words": words}}
        return plan(DataSettings.model_validate({"path": str(folder), "task": task}), 0).key

    below, elsewhere = key({"text": "text.txt"}), key({"text": str(text)})
    text.write_text("other words", encoding="utf-8")
    assert key({"text": str(text)}) != elsewhere
    assert key({"text": "text.txt"}) == below
