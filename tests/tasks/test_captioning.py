"""Captions: how tables are read, what is learned, how sentences are judged, where words look."""

import base64
import copy
import io
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from pydantic import ValidationError
from torch import nn

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec
from compress.data.split import draw_split
from compress.measure.saliency.gallery import DRAWN_SIDE, drawn_answers
from compress.methods.distill.teacher_cache import Largest, _compact
from compress.recipe.load import load_recipe
from compress.tasks import read_for, task_of
from compress.tasks.base import Source
from compress.tasks.captioning import losses
from compress.tasks.captioning.attention import on_box
from compress.tasks.captioning.facts import Reader
from compress.tasks.captioning.scores import (
    bleu_and_cider,
    edits,
    shares_of_cells,
    word_accuracy,
)
from compress.tasks.captioning.settings import Captions
from compress.tasks.captioning.task import Captioning, Sentence
from compress.tasks.captioning.words import numbers_of, vocabulary_of, words_of
from compress.utils.errors import UserError
from tests.conftest import tiny_recipe
from tests.tasks.captioned import FACTS, SETTINGS, squares


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return squares(tmp_path_factory.mktemp("data") / "squares")


def table(folder: Path, text: str, images: int = 3, name: str = "captions.csv") -> Path:
    """A folder of images 0.png, 1.png… and a table."""
    for i in range(images):
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, **settings: Any) -> Dataset:
    asked = Captions.model_validate(settings)
    return read_for(Captioning, Source(folder), asked, named=True)


def task_for(data: Dataset) -> Captioning:
    predicted = Captioning.predicts(data)["predicted"]
    spec = InputSpec(height=32, width=32, mean=(0, 0, 0), std=(1, 1, 1), predicted=predicted)
    task = task_of(spec)
    assert isinstance(task, Captioning)
    return task


def saying(task: Captioning, sentences: list[str]) -> dict[str, np.ndarray]:
    """Outputs that say just these sentences, and look everywhere alike."""
    steps, words = task.spec.outputs["tokens"]
    places = {word: i for i, word in enumerate(task.spec.predicted.facts["vocabulary"])}
    tokens = np.zeros((len(sentences), steps, words), np.float32)
    for row, sentence in zip(tokens, sentences, strict=True):
        for step, number in enumerate(numbers_of(sentence, places, steps).clip(0)):
            row[step, number] = 5
    steps, cells = task.spec.outputs["attention"]
    return {"tokens": tokens, "attention": np.full((len(sentences), steps, cells), 1 / cells)}


# Shown


def test_a_gallery_shows_each_image_as_predict_draws_it(folder: Path, tmp_path: Path) -> None:
    data = read(folder, **SETTINGS)
    task, said = task_for(data), ["a red square", "on the left is a green square"]
    outputs, files = saying(task, said), [data.root / data.images[i].path for i in range(2)]
    sheets = drawn_answers(task, outputs, files)["answer"]
    assert len(sheets) == 2
    for sheet, sentence, answer, file in zip(
        sheets, said, task.answers(outputs, files), files, strict=True
    ):
        shown = Image.open(io.BytesIO(base64.b64decode(sheet)))
        task.draw(file, answer, tmp_path / "drawn.jpg")
        whole = Image.open(tmp_path / "drawn.jpg")
        assert answer.text == sentence and max(shown.size) == DRAWN_SIDE
        difference = np.subtract(shown, whole.resize(shown.size), dtype=float)
        assert np.abs(difference).mean() < 6


# Reading


def test_rows_of_one_image_are_its_captions(folder: Path) -> None:
    data = read(folder, **SETTINGS)
    assert all(len(image.truth) == 2 for image in data.images[:48])
    assert sum(image.split == "unlabelled" for image in data.images) == 4
    assert any("96 captions, 2 an image" in note for note in data.notes)
    assert data.images[0].annotations["width"] == 12
    assert Captioning.outputs(data) == {"tokens": (8, 11), "attention": (8, 4)}


def test_columns_of_captions_are_its_captions_too(tmp_path: Path) -> None:
    text = 'path,caption_1,Caption 2,sea\n0.png,"A whale, far.",it blows,calm\n1.png,no whale,,x\n'
    data = read(table(tmp_path, text))
    assert [image.truth for image in data.images] == [["A whale, far.", "it blows"], ["no whale"]]
    named = read(tmp_path, columns=["sea"])
    assert [image.truth for image in named.images] == [["calm"], ["x"]]


def test_a_dataset_is_the_same_when_it_was_stored(folder: Path, tmp_path: Path) -> None:
    data = draw_split(read(folder, **SETTINGS), 0.25, 0)
    data.save(tmp_path)
    assert Dataset.load(tmp_path, data.root) == data
    assert len(data.indices("validation")) == 12


def test_one_caption_an_image_is_said(tmp_path: Path) -> None:
    data = read(table(tmp_path, "path,caption\n0.png,a b\n1.png,c\n2.png,d e\n"))
    assert any("3 captions, one an image" in note for note in data.notes)
    assert task_for(data).targets(data).shape == (3, 1, 16)


def test_captions_that_are_too_long_are_cut_and_counted(tmp_path: Path) -> None:
    said: list[str] = []
    data = read(table(tmp_path, "path,caption\n0.png,a b c d\n1.png,a b\n2.png,c\n"), steps=3)
    Captioning.checked(data, said.append)
    assert said == [
        "1 of 3 captions have more than 3 words and are cut there: raise steps to learn them whole"
    ]
    vocabulary = Captioning.facts(data)["vocabulary"]
    assert vocabulary == ["<end>", "<unknown>", "a", "b", "c", "d"]
    rows = task_for(data).targets(data)[:, 0]
    assert rows.tolist() == [[2, 3, 4], [2, 3, 0], [4, 0, -1]]


def test_words_that_no_training_caption_has_are_unknown_and_counted(tmp_path: Path) -> None:
    said: list[str] = []
    text = "path,split,caption\n0.png,train,a whale\n1.png,train,a boat\n2.png,val,a grey whale\n"
    data = read(table(tmp_path, text), steps=4)
    Captioning.checked(data, said.append)
    assert said == ["1 of 7 words of captions are unknown: no training caption has them"]
    task = task_for(data)
    assert task.targets(data)[2, 0].tolist() == [2, 1, 4, 0]
    scored = task.score(
        lambda _: saying(task, ["a whale"]), data, data.indices("validation"), None, True
    )
    assert scored.word == "word accuracy" and scored.records == [pytest.approx(2 / 3)]
    assert vocabulary_of(["a b", "a"], 2) == ["<end>", "<unknown>", "a"]


def test_empty_captions_make_an_image_unlabelled(tmp_path: Path) -> None:
    data = read(table(tmp_path, "path,caption\n0.png,a b\n1.png,\n1.png,c\n2.png,  ?! \n"))
    assert [image.truth for image in data.images] == [["a b"], ["c"], None]
    assert data.images[2].split == "unlabelled"
    assert any("1 images, whose captions are empty" in note for note in data.notes)


HOSTILE: dict[str, tuple[str, dict[str, Any], str]] = {
    "no column of captions": ("path,a\n0.png,x\n", {}, "has no column of captions, but path, a"),
    "no such column": ("path,a\n0.png,x\n", {"columns": ["b"]}, "has no column 'b', but path, a"),
    "all empty": ("path,caption\n0.png,\n", {}, "has no captions: all cells of caption are empty"),
    "no rows": ("path,caption\n", {}, "but no rows"),
    "no file": ("path,caption\n9.png,x\n", {}, "9.png"),
    "two splits": (
        "path,split,caption\n0.png,train,x\n0.png,val,y\n",
        {},
        "'0.png' is in two splits",
    ),
    "held out, and not": (
        "path,split,caption\n0.png,test,x\n0.png,train,y\n1.png,train,z\n",
        {},
        "'0.png' is in two splits",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_wrong_with_a_table_is_said(case: str, tmp_path: Path) -> None:
    text, settings, message = HOSTILE[case]
    with pytest.raises(UserError, match=message):
        read(table(tmp_path, text), **settings)


def test_no_word_that_is_common_enough(tmp_path: Path) -> None:
    data = read(table(tmp_path, "path,caption\n0.png,a\n1.png,b\n"), min_count=2)
    with pytest.raises(UserError, match="No word stands in 2 training captions"):
        Captioning.facts(data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"facts": {"sea": ["calm"]}}, "at least 2"),
        ({"facts": {"sea": ["calm", "Calm!"]}}, "has the phrase 'Calm!' twice"),
        ({"facts": {"sea": ["calm", "?"]}}, "has no word"),
        ({"looks": {"words": ["the head"]}}, "'the head' is not one word"),
        ({"steps": 1}, "greater than or equal to 2"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Captions.model_validate(settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"name": "kd"}}, "kd is not for captioning: remove it, or choose word_kd"),
        ({"train": {"epochs": 1, "mixup": 0.2}}, "mixes classes, and captioning has none"),
        (
            {"train": {"epochs": 1, "augmentation": {"mirror": "same"}}},
            "what captioning answers for a mirrored image is not known",
        ),
        ({"teacher": ["teacher", "other"]}, "the mean of several answers to captioning is none"),
        ({"teacher": ["teacher"]}, None),
        ({"train": {"epochs": 1, "label_smoothing": 0.1}}, None),
    ],
    ids=["loss", "mixup", "mirror", "several teachers", "one teacher", "smoothing"],
)
def test_recipes(tmp_path: Path, write_recipe, changes: dict[str, Any], message: str) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe["data"]["task"] = {"captioning": SETTINGS}
    (step,) = recipe["candidates"]["shufflenet_v2_x0_5"]
    recipe["candidates"]["other"] = [copy.deepcopy(step)]
    step["distill"] |= changes
    path = write_recipe(recipe)
    if message is None:
        loss = load_recipe(path).candidates["shufflenet_v2_x0_5"][0].distill.loss
        assert loss.name == "word_kd"
        return
    with pytest.raises(UserError, match=message):
        load_recipe(path)


def test_weights_of_other_words_are_refused_and_another_order_is_theirs(folder: Path) -> None:
    task = task_for(read(folder, **SETTINGS))
    theirs = task.spec.model_dump()
    words = theirs["predicted"]["facts"]["vocabulary"]
    theirs["predicted"]["facts"]["vocabulary"] = [*words[:2], *words[:1:-1]]
    spec = task.check_weights({"spec": theirs})
    assert spec.predicted.facts["vocabulary"] == [*words[:2], *words[:1:-1]]
    theirs["predicted"]["facts"]["vocabulary"] = [*words[:-1], "whale"]
    with pytest.raises(UserError, match=r"another vocabulary \(2 words"):
        task.check_weights({"spec": theirs})


# Words and facts


def test_words_are_found_in_what_people_write() -> None:
    assert words_of("Two whales — heading to 3 o'clock!") == [
        "two", "whales", "heading", "to", "3", "o'clock",
    ]  # fmt: skip
    assert words_of("Cafe\u0301-bar, _x_") == ["café-bar", "x"]


def test_facts_are_read_back_by_phrases_the_longest_first() -> None:
    reader = Reader({"sea": ["calm", ["rough", "not calm"]], "n": ["one whale", "two whales"]})
    told = reader.read(words_of("Two whales in a sea that is not calm"))
    assert told == (frozenset({1}), frozenset({1}))
    assert reader.read(["calming"]) == (frozenset(), frozenset())
    assert reader.read(words_of("calm, not calm")) == (frozenset({0, 1}), frozenset())


def test_the_score_is_the_share_of_facts_right() -> None:
    reader = Reader(FACTS)
    captions = [reader.read(words_of(x)) for x in ("a red square on the left", "something red")]
    score = {
        "a red square on the left": 1.0,
        "red": 0.5,
        "a red square on the right": 0.5,
        "red left and right": 0.5,  # both are none
        "grass colour": 0.0,
    }
    for said, expected in score.items():
        assert reader.score(reader.read(words_of(said)), captions) == expected, said
    assert reader.score(reader.read(["red"]), [reader.read(["nothing"])]) is None


def test_images_whose_captions_tell_no_fact_do_not_count() -> None:
    weights = np.array([[1.0, 1, 1, 1], [0, 3, 0, 1], [0, 0, 0, 4]])
    found = Captioning.statistic([1.0, 0.5, 0.0, None], weights)
    assert found.tolist() == [0.5, 0.5, 0.0]


def test_facts_that_come_together_in_no_training_caption_are_judged_apart(tmp_path: Path) -> None:
    text = (
        "path,split,caption\n0.png,train,red left\n1.png,train,green right\n"
        "2.png,val,red right\n3.png,val,red left\n"
    )
    data = read(table(tmp_path, text, images=4), facts=FACTS, steps=4, grid=2)
    task = task_for(data)
    assert task.spec.predicted.facts["combinations"] == [[[0], [0]], [[1], [1]]]
    judged = data.indices("validation")
    said = saying(task, ["red left", "red left"])
    scored = task.score(lambda _: said, data, judged, None, True)
    assert scored.records == [0.5, 1.0] and scored.word == "facts right"
    (new,) = (x for x in scored.further if x.name == "new combinations %")
    assert new.value == 50 and "1 images whose facts" in new.meaning
    assert new.interval is not None and new.interval.low <= 50 <= new.interval.high


# Scores


def test_words_are_exchanged_put_in_and_left_out() -> None:
    for one, other, count in [("a b c", "a b c", 0), ("a b", "a x b", 1), ("", "a b", 2),
                              ("a b c d", "b c d e", 2), ("x y", "a b c", 3)]:  # fmt: skip
        assert edits(one.split(), other.split()) == count
        assert edits(other.split(), one.split()) == count
    assert word_accuracy(["a", "b"], [["x"], ["a", "b", "c"]]) == pytest.approx(2 / 3)
    assert word_accuracy([], [["a"]]) == 0


SAID = ["a red square on the left", "a green square is on the right", "the left", "is a red"]
TRUE = [
    ["a red square on the left", "on the left is a red square"],
    ["a green square on the right", "on the right is a green square"],
    ["a red square on the left"],
    ["on the left is a red square here", "a red one is here"],
]


def grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu_by_hand() -> float:
    """Papineni et al. 2002 over a corpus, with the nearest length."""
    hits, whole, length, nearest = [0] * 4, [0] * 4, 0, 0
    for said, captions in zip(SAID, TRUE, strict=True):
        words, references = said.split(), [x.split() for x in captions]
        length += len(words)
        nearest += min((abs(len(x) - len(words)), len(x)) for x in references)[1]
        for n in range(4):
            found = grams(words, n + 1)
            most = [max(grams(x, n + 1)[g] for x in references) for g in found]
            hits[n] += sum(map(min, found.values(), most))
            whole[n] += sum(found.values())
    precise = math.prod(h / w for h, w in zip(hits, whole, strict=True)) ** 0.25
    return precise * min(1, math.exp(1 - nearest / length))


def cider_by_hand() -> float:
    """Vedantam et al. 2015, eq. 1 to 3, with CIDEr-D's clipping and lengths; x 10."""
    found = []
    for said, captions in zip(SAID, TRUE, strict=True):
        of_orders = []
        for n in range(1, 5):
            in_images = Counter(
                g for each in TRUE for g in {g for x in each for g in grams(x.split(), n)}
            )

            def vector(text: str, n: int = n, df: Counter[Any] = in_images) -> dict[Any, float]:
                weight = {g: math.log(len(TRUE) / max(1, df[g])) for g in grams(text.split(), n)}
                return {g: count * weight[g] for g, count in grams(text.split(), n).items()}

            ours = vector(said)
            for caption in captions:
                theirs = vector(caption)
                dot = sum(min(x, theirs.get(g, 0)) * theirs.get(g, 0) for g, x in ours.items())
                size = math.hypot(*ours.values()) * math.hypot(*theirs.values())
                # The scorer counts lengths in pairs of words.
                apart = len(said.split()) - len(caption.split())
                near = math.exp(-(apart**2) / 72)
                of_orders.append(near * dot / (size or 1) / len(captions))
        found.append(10 * sum(of_orders) / 4)
    return float(np.mean(found))


def test_bleu_and_cider_are_the_papers() -> None:
    said, true = [x.split() for x in SAID], [[x.split() for x in each] for each in TRUE]
    bleu, cider = bleu_and_cider(said, true)
    assert bleu == pytest.approx(bleu_by_hand(), rel=1e-5)
    assert cider == pytest.approx(cider_by_hand(), rel=1e-5)


def test_without_pycocoevalcap_it_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocoevalcap.bleu.bleu_scorer", None)
    data = draw_split(read(folder, **SETTINGS), 0.25, 0)
    task = task_for(data)
    judged = data.indices("validation")
    said = saying(task, ["a red square"] * len(judged))
    scored = task.score(lambda _: said, data, judged, None, True)
    by_name = {x.name: x for x in scored.further}
    assert by_name["BLEU-4 %"].value is None
    assert "pip install 'compress[captioning]'" in by_name["CIDEr"].meaning


def test_cells_of_a_box_count_by_their_share() -> None:
    inside = shares_of_cells(np.array([0.25, 0.0, 0.75, 0.5]), (2, 2))
    assert inside.tolist() == [0.5, 0.5, 0, 0]
    assert shares_of_cells(np.array([-1.0, -1, 2, 2]), (3, 4)).tolist() == [1] * 12
    assert not shares_of_cells(np.array([1.1, 0, 1.4, 1]), (2, 2)).any()


def test_where_it_looks_is_compared_with_an_even_map() -> None:
    maps = np.zeros((3, 4, 4))
    maps[:, :, 0], maps[0, 1] = 1, [0.25, 0.25, 0.25, 0.25]
    inside = np.array([[1, 0, 0, 0], [0.5, 0, 0, 0], [np.nan] * 4])
    words = [["a", "head", "head"], ["head"], ["head"]]
    found = on_box(maps, words, ["head"], inside)
    np.testing.assert_allclose(found, [[0.625, 0.25], [0.5, 0.125], [np.nan, np.nan]])
    assert np.isnan(on_box(maps, words, ["whale"], inside)).all()


@pytest.mark.parametrize("word", ["square", "Square"])
def test_the_share_in_the_box_stands_beside_the_score(folder: Path, word: str) -> None:
    data = draw_split(read(folder, **SETTINGS | {"looks": {"words": [word]}}), 0.25, 0)
    task = task_for(data)
    judged = data.indices("validation")
    said = saying(task, [data.images[i].truth[0] for i in judged])
    scored = task.score(lambda _: said, data, judged, None, True)
    assert scored.top1.value == 1
    by_name = {x.name: x for x in scored.further}
    assert by_name["word accuracy %"].value == 100 and by_name["BLEU-4 %"].value > 99.9
    assert by_name["times an even map"].value == pytest.approx(1)
    assert by_name["attention in box %"].value == pytest.approx(100 * 144 / 1024)
    assert "12 images;" in by_name["attention in box %"].meaning
    share, times = (by_name[x].interval for x in ("attention in box %", "times an even map"))
    assert share is not None and times is not None and times.low < 1 < times.high
    assert times.high == pytest.approx(share.high / (100 * 144 / 1024))
    nothing = task.score(lambda _: saying(task, ["red"] * len(judged)), data, judged, None, True)
    assert "in no image" in nothing.further[-1].meaning and nothing.further[-1].value is None


def test_the_commonest_caption_is_the_guess(folder: Path) -> None:
    data = draw_split(read(folder, **SETTINGS), 0.25, 0)
    what, score = task_for(data).guess(data, None)
    assert what == "the commonest caption" and 0.3 < score < 0.8


# Losses

LOGITS = torch.tensor(np.random.default_rng(0).normal(size=(2, 2, 4, 6)))
LOOKS = torch.tensor(np.random.default_rng(1).dirichlet([1] * 3, size=(2, 2, 4)))
TARGETS = torch.tensor([[[2, 3, 0, -1], [4, 1, 5, 0]], [[5, 0, -1, -1], [-1, -1, -1, -1]]])


def by_hand(logits: np.ndarray, looks: np.ndarray, weight: float) -> float:
    """Word by word: -log p, and of each sentence sum over places of (1 - sum over words)^2."""
    words, uneven, steps = [], 0.0, 0
    for i, j in np.ndindex(2, 2):
        seen = np.zeros(3)
        length = 0
        for t, word in enumerate(TARGETS[i, j].tolist()):
            if word == -1:
                continue
            length += 1
            seen += looks[i, j, t]
            x = logits[i, j, t]
            if word != 1:  # the unknown one
                words.append(np.log(np.exp(x).sum()) - x[word])
        steps += length
        uneven += float(((1 - seen) ** 2).sum()) if length else 0.0
    return float(np.mean(words)) + weight * uneven / steps


def test_the_loss_of_captions_and_its_gradients() -> None:
    logits = LOGITS.clone().requires_grad_()
    looks = LOOKS.clone().requires_grad_()
    loss = losses.labels(logits, looks, TARGETS, 0.0, 0.7)
    assert loss.item() == pytest.approx(by_hand(LOGITS.numpy(), LOOKS.numpy(), 0.7))
    of_logits, of_looks = torch.autograd.grad(loss, (logits, looks))
    assert not of_logits[0, 0, 3].any() and not of_logits[1, 1].any() and not of_looks[1, 1].any()
    assert not of_logits[0, 1, 1].any() and of_looks[0, 1, 1].any()
    for at in [(0, 0, 1, 3), (0, 1, 2, 0), (1, 0, 1, 5)]:
        step = np.zeros(LOGITS.shape)
        step[at] = 1e-5
        above, below = (by_hand(LOGITS.numpy() + s, LOOKS.numpy(), 0.7) for s in (step, -step))
        assert float(of_logits[at]) == pytest.approx((above - below) / 2e-5, rel=1e-4)
    for at in [(0, 0, 1, 2), (0, 1, 1, 0)]:
        step = np.zeros(LOOKS.shape)
        step[at] = 1e-5
        above, below = (by_hand(LOGITS.numpy(), LOOKS.numpy() + s, 0.7) for s in (step, -step))
        assert float(of_looks[at]) == pytest.approx((above - below) / 2e-5, rel=1e-4)


def test_smoothing_is_torchs_and_a_batch_without_captions_has_no_loss() -> None:
    learned = (TARGETS >= 0) & (TARGETS != 1)
    expected = F.cross_entropy(LOGITS[learned], TARGETS[learned], label_smoothing=0.2)
    assert float(losses.labels(LOGITS, LOOKS, TARGETS, 0.2, 0.0)) == pytest.approx(float(expected))
    x = LOGITS.clone().requires_grad_()
    nothing = losses.labels(x, LOOKS, torch.full_like(TARGETS, -1), 0.0, 1.0)
    (gradient,) = torch.autograd.grad(nothing, x)
    assert nothing.item() == 0 and not gradient.any()


def test_one_sentence_of_a_network_that_is_told_nothing_is_held_against_all_captions() -> None:
    alone, looks = LOGITS[:, 0], LOOKS[:, 0]
    one = losses.labels(alone, looks, TARGETS, 0.0, 0.3)
    same = losses.labels(
        alone[:, None].expand(-1, 2, -1, -1),
        looks[:, None].expand(-1, 2, -1, -1),
        TARGETS,
        0.0,
        0.3,
    )
    assert float(one) == pytest.approx(float(same))


def test_distillation_ends_where_the_teacher_ends() -> None:
    teacher = torch.tensor(np.random.default_rng(2).normal(size=(2, 4, 6)))
    teacher[0, 1, 0] = 9  # it ends at its second word
    teacher[1, :, 0] = -9  # and never
    teacher[0, 0, 0] = -9
    assert (losses.spoken(teacher)[0] == -1).tolist() == [False, False, True, True]
    t = 2.0
    found, count = 0.0, 0
    for i, steps in ((0, 2), (1, 4)):
        for step in range(steps):
            q = (teacher[i, step] / t).softmax(0)
            p = (LOGITS[i, 1, step] / t).softmax(0)
            found, count = found + float((q * (q / p).log()).sum()), count + 1
    expected = t * t * found / count
    assert float(losses.word_kd(LOGITS, teacher, t)) == pytest.approx(expected)
    assert float(losses.word_kd(teacher, teacher, 1.0)) == pytest.approx(0, abs=1e-12)


def test_a_student_is_told_the_captions_and_the_teachers_sentence(folder: Path) -> None:
    data = read(folder, **SETTINGS)
    task = task_for(data)
    targets = torch.from_numpy(task.targets(data)[:3])
    said = saying(task, ["a red square"] * 3)
    told = task.told(targets, {name: torch.from_numpy(x) for name, x in said.items()})
    assert torch.equal(told[:, :2], targets) and told.shape == (3, 3, 8)
    (wanted,) = {tuple(x) for x in told[:, 2].tolist()}
    known = task.spec.predicted.facts["vocabulary"]
    assert [known[i] for i in wanted if i > 0] == ["a", "red", "square"] and wanted[3:5] == (0, -1)
    assert torch.equal(task.told(targets, None), targets)


def test_of_a_large_vocabulary_the_likeliest_words_are_kept() -> None:
    drawn = np.random.default_rng(0).normal(size=(3, 5, 30)) * 3
    logits = torch.tensor(drawn, dtype=torch.float32)
    values, places, rest = _compact(logits, 4)
    stored = Largest(values.half()[None], places.int()[None], rest[None], 30)
    at = torch.tensor([0, 0]), torch.tensor([2, 0])
    again, true = stored[at], logits[[2, 0]]
    assert again.shape == (2, 5, 30)
    p, q = again.softmax(2), true.softmax(2)
    largest = true.topk(4, 2).indices
    torch.testing.assert_close(p.gather(2, largest), q.gather(2, largest), rtol=5e-3, atol=1e-4)


# Answers


def test_the_sentence_is_the_answer_and_each_word_has_its_map(folder: Path, tmp_path: Path) -> None:
    task = task_for(read(folder, **SETTINGS))
    file = folder / "imgs/00.png"
    (answer,) = task.answers(saying(task, ["a red square"]), [file])
    assert answer.words == ["a", "red", "square"] and answer.maps.shape == (3, 2, 2)
    assert task.lines(answer) == ["a red square"]
    assert task.rows(answer) == [{"caption": "a red square"}]
    task.draw(file, answer, tmp_path / "drawn.jpg")
    with Image.open(tmp_path / "drawn.jpg") as drawn:
        assert drawn.size == (4 * 192, 192 + 16)
    task.draw(file, Sentence([], np.zeros((0, 2, 2))), tmp_path / "silent.jpg")
    one, other = saying(task, ["a red", "left"]), saying(task, ["a red", "right"])
    assert task.changed_answers(one, other) == 1 and task.changed_answers(one, one) == 0
    assert dict(task.described())["facts"] == "colour, place"


def test_importing_the_task_imports_no_torch() -> None:
    code = "import sys, compress.tasks.captioning.task; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_network_that_is_no_network_of_words(folder: Path) -> None:
    from teachers.captioner import vgg16_bn

    with pytest.raises(ValueError, match="give it the same steps as the task"):
        vgg16_bn(8 * 11, steps=5, width=0.1)
    assert isinstance(vgg16_bn(8 * 11, steps=8, width=0.1, units=8), nn.Module)
