"""Several labels an image: how tables are read, what is learned, how answers are judged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from scipy.special import expit

from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec
from compress.data.split import draw_split
from compress.methods.distill.settings import Unlabelled
from compress.methods.distill.teachers import Average
from compress.methods.distill.unlabelled import kept
from compress.metrics.keypoints import USUAL
from compress.metrics.probabilities import logits_of, note_on, probabilities_of, scale_of
from compress.recipe.load import load_recipe
from compress.tasks import read_for, task_of
from compress.tasks.base import Source
from compress.tasks.multilabel import losses
from compress.tasks.multilabel.scores import (
    average_precision,
    best_threshold,
    f1,
    mean_average_precision,
)
from compress.tasks.multilabel.settings import Labels
from compress.tasks.multilabel.task import Multilabel
from compress.training.mixing import Mix
from compress.utils.errors import UserError
from tests.conftest import tiny_recipe
from tests.tasks.tagged import tagged

LOGITS = np.random.default_rng(0).normal(size=(6, 4)) * 3
TRUTH = np.array(
    [[1, 0, 0, 1], [0, 0, 0, 0], [1, np.nan, 1, 0], [np.nan, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]]
)
seeds = st.integers(0, 2**32 - 1)


def table(folder: Path, text: str, images: int = 4, name: str = "labels.csv") -> Path:
    """A folder of images 0.png, 1.png… and a table."""
    for i in range(images):
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def read(folder: Path, **settings: Any) -> Dataset:
    return read_for(Multilabel, Source(folder), Labels(**settings), named=True)


def truth_of(data: Dataset) -> list[dict[str, int | None] | None]:
    return [image.truth for image in data.images]


def task_for(data: Dataset, fitted: Any = None) -> Multilabel:
    predicted = Multilabel.predicts(data)["predicted"].model_copy(update={"fitted": fitted})
    spec = InputSpec(height=8, width=8, mean=(0, 0, 0), std=(1, 1, 1), predicted=predicted)
    task = task_of(spec)
    assert isinstance(task, Multilabel)
    return task


# Reading


def test_columns_of_0_1_and_nothing_are_the_labels(tmp_path: Path) -> None:
    data = read(
        table(
            tmp_path,
            "path,width,glint,sea,empty,calm\n"
            "0.png,640,1,rough,,0\n1.png,1,,calm,,1\n2.png,0,0,calm,,1\n",
        )
    )
    assert truth_of(data) == [
        {"glint": 1, "calm": 0},
        {"glint": None, "calm": 1},
        {"glint": 0, "calm": 1},
    ]
    assert any("labels: glint, calm" in note for note in data.notes)
    assert data.images[0].annotations == {"width": 640.0}
    assert data.task_name == "multilabel" and Multilabel.outputs(data) == {"logits": (2,)}


def test_named_columns_in_their_order_floats_too(tmp_path: Path) -> None:
    folder = table(tmp_path, "path;b;a;c\n0.png;1.0;0.0;1\n1.png;;1.0;0\n")
    data = read(folder, labels=["c", "a"])
    assert truth_of(data) == [{"c": 1, "a": 0}, {"c": 0, "a": 1}]
    assert list(truth_of(data)[0] or {}) == ["c", "a"]


def test_one_column_of_separated_labels(tmp_path: Path) -> None:
    text = "path,tags\n0.png,sea | glint\n1.png,\n2.png,glint|glint|\n"
    data = read(table(tmp_path, text), label_column="tags", separator="|")
    assert truth_of(data) == [
        {"glint": 1, "sea": 1},
        {"glint": 0, "sea": 0},
        {"glint": 1, "sea": 0},
    ]
    assert any("1 images have none of the labels in 'tags'" in note for note in data.notes)
    told = read(tmp_path, label_column="tags", separator="|", labels=["sea", "land", "glint"])
    assert truth_of(told)[0] == {"sea": 1, "land": 0, "glint": 1}


def test_images_of_which_nothing_is_known_are_unlabelled(tmp_path: Path) -> None:
    text = "path,split,a,b\n0.png,train,1,0\n1.png,train,,\n2.png,val,0,1\n3.png,val,,\n"
    data = read(table(tmp_path, text))
    assert [image.split for image in data.images] == [
        "train", "unlabelled", "validation", "unlabelled",
    ]  # fmt: skip
    assert any("2 images, of which no label is known" in note for note in data.notes)


def test_splits_by_tables_and_what_is_held_out(tmp_path: Path) -> None:
    table(tmp_path, "path,a,b\n0.png,1,0\n1.png,0,1\n", name="train.csv")
    table(tmp_path, "path,a,b\n2.png,1,1\n", name="val.csv")
    table(tmp_path, "path,a,b\n3.png,1,1\n", name="test.csv")
    data = read(tmp_path)
    assert [(p.path, p.split) for p in data.images] == [
        ("0.png", "train"), ("1.png", "train"), ("2.png", "validation"),
    ]  # fmt: skip


def test_a_dataset_is_the_same_when_it_was_stored(tmp_path: Path) -> None:
    data = draw_split(read(tagged(tmp_path / "data")), 0.25, 0)
    (tmp_path / "stored").mkdir()
    data.save(tmp_path / "stored")
    assert Dataset.load(tmp_path / "stored", data.root) == data
    assert len(data.indices("unlabelled")) >= 6 and len(data.indices("validation")) == 12


def test_a_label_that_no_image_has_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    data = read(tagged(tmp_path / "drawn"))
    Multilabel.checked(data, said.append)
    assert said == ["no image has absent: nothing can be learned of that"]
    split = draw_split(data, 0.25, 0)
    assert Multilabel.facts(split)["not_in_training"] == ["absent"]
    assert ("labels that no training image has", "absent") in list(task_for(split).described())

    table(tmp_path, "path,split,a,b\n0.png,train,1,0\n1.png,train,0,0\n2.png,val,0,1\n")
    Multilabel.checked(read(tmp_path), said.append)
    assert said[1:] == ["no training image has b: nothing can be learned of that"]


HOSTILE: dict[str, tuple[str, dict[str, Any], str]] = {
    "a word in a column of labels": (
        "path,a,b\n0.png,1,0\n1.png,maybe,1\n",
        {"labels": ["a", "b"]},
        r"1 fault:\n  1.png: 'maybe' in 'a' is neither 0, 1 nor empty",
    ),
    "a probability": ("path,a\n0.png,0.7\n", {"labels": ["a"]}, "'0.7' in 'a' is neither 0, 1"),
    "CheXpert's uncertain": ("path,a\n0.png,-1\n", {"labels": ["a"]}, "'-1' in 'a' is neither"),
    "not a number": ("path,a\n0.png,nan\n", {"labels": ["a"]}, "'nan' in 'a' is neither"),
    "no such column": ("path,a\n0.png,1\n", {"labels": ["z"]}, "no column 'z', but path, a"),
    "no column of 0 and 1": ("path,a\n0.png,cat\n", {}, "no column of the table holds only 0, 1"),
    "only empty columns": ("path,a,b\n0.png,,\n", {}, "no column of the table holds only 0, 1"),
    "nothing known": ("path,a\n0.png,\n", {"labels": ["a"]}, "all their labels are unknown"),
    "no rows": ("path,a\n", {}, "names none"),
    "twice": ("path,a\n0.png,1\n0.png,0\n", {}, "is there twice"),
    "no file": ("path,a\n9.png,1\n0.png,0\n", {}, "9.png"),
    "no list of labels": (
        "path,a\n0.png,1\n",
        {"label_column": "tags", "separator": " "},
        "no column 'tags', but path, a",
    ),
    "an empty list of labels": (
        "path,tags\n0.png,\n",
        {"label_column": "tags", "separator": " "},
        "'tags' is empty: no image has a label",
    ),
    "a label that is none": (
        "path,tags\n0.png,sea ice\n",
        {"label_column": "tags", "separator": " ", "labels": ["sea"]},
        "0.png: 'ice' is none of the labels",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_wrong_with_a_table_is_said(case: str, tmp_path: Path) -> None:
    text, settings, message = HOSTILE[case]
    with pytest.raises(UserError, match=message):
        read(table(tmp_path, text), **settings)


def test_two_tables_must_have_the_same_labels(tmp_path: Path) -> None:
    table(tmp_path, "path,a,b\n0.png,1,0\n1.png,0,1\n", name="train.csv")
    table(tmp_path, "path,a\n2.png,1\n", name="val.csv")
    with pytest.raises(UserError, match="no column 'b', but path, a"):
        read(tmp_path)


def test_folders_and_missing_data_are_refused(tmp_path: Path, shapes: Path) -> None:
    with pytest.raises(UserError, match="no table that names its images"):
        read(shapes)
    with pytest.raises(UserError, match="No data at"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label_column": "tags"}, "go together"),
        ({"separator": " "}, "go together"),
        ({"labels": []}, "at least 1"),
        ({"labels": ["a", "a"]}, "names a twice"),
        ({"loss": {"name": "asymmetric", "margin": 1.0}}, "less than 1"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Labels(**settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": {"name": "kd"}}, "kd is not for multilabel: remove it, or choose binary_kd"),
        (
            {"train": {"epochs": 1, "augmentation": {"mirror": "new_class"}}},
            "new_class is for images that each have one class: choose same",
        ),
        ({"train": {"epochs": 1, "augmentation": {"mirror": "same"}}}, None),
    ],
)
def test_recipes(tmp_path: Path, write_recipe, changes: dict[str, Any], message: str) -> None:
    recipe = tiny_recipe(tmp_path)
    recipe["data"]["task"] = {"multilabel": {}}
    (step,) = recipe["candidates"]["shufflenet_v2_x0_5"]
    step["distill"] |= changes
    path = write_recipe(recipe)
    if message is None:
        loaded = load_recipe(path)
        assert loaded.data.asked[0] is Multilabel
        loss = loaded.candidates["shufflenet_v2_x0_5"][0].distill.loss
        assert loss.name == "binary_kd"
        return
    with pytest.raises(UserError, match=message):
        load_recipe(path)


def test_label_column_beside_the_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.task\.multilabel\.label_column"):
        Multilabel.read(Source(tmp_path, None, "tags"), Labels())


# Losses


def test_binary_cross_entropy_is_torchs_over_known_labels() -> None:
    x, t = torch.tensor(LOGITS), torch.tensor(TRUTH)
    known = t.isfinite()
    expected = F.binary_cross_entropy_with_logits(x[known], t[known])
    assert float(losses.binary_cross_entropy(x, t, 0.0)) == pytest.approx(float(expected))
    smooth = F.binary_cross_entropy_with_logits(x[known], t[known] * 0.8 + 0.1)
    assert float(losses.binary_cross_entropy(x, t, 0.2)) == pytest.approx(float(smooth))


def by_hand(logits: np.ndarray, truth: np.ndarray, positive: float, negative: float, m: float):
    """Ridnik et al. 2021, equations 4 to 7, label by label."""
    found = []
    for x, has in zip(logits.flat, truth.flat, strict=True):
        p = expit(x)
        if has == 1:
            found.append(-((1 - p) ** positive) * np.log(p))
        elif has == 0:
            shifted = max(p - m, 0)
            found.append(-(shifted**negative) * np.log(1 - shifted))
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("positive", "negative", "margin"), [(0, 4, 0.05), (1, 4, 0.05), (2, 2, 0.0), (0.5, 0.5, 0.2)]
)
def test_the_asymmetric_loss_is_the_papers(positive: float, negative: float, margin: float) -> None:
    x = torch.tensor(LOGITS, requires_grad=True)
    loss = losses.asymmetric(x, torch.tensor(TRUTH), 0.0, positive, negative, margin)
    assert loss.item() == pytest.approx(by_hand(LOGITS, TRUTH, positive, negative, margin), 1e-5)
    (gradient,) = torch.autograd.grad(loss, x)
    for i, j in [(0, 0), (0, 1), (2, 2), (5, 3)]:
        step = np.zeros_like(LOGITS)
        step[i, j] = 1e-5
        above, below = (
            by_hand(LOGITS + s, TRUTH, positive, negative, margin) for s in (step, -step)
        )
        assert float(gradient[i, j]) == pytest.approx((above - below) / 2e-5, rel=1e-3, abs=1e-6)


def test_without_focus_and_margin_it_is_the_binary_cross_entropy() -> None:
    x, t = torch.tensor(LOGITS), torch.tensor(TRUTH)
    for smoothing in (0.0, 0.1):
        plain = losses.binary_cross_entropy(x, t, smoothing)
        focused = losses.asymmetric(x, t, smoothing, 0.0, 0.0, 0.0)
        assert float(focused) == pytest.approx(float(plain), rel=1e-5)


def test_distillation_is_a_divergence_of_each_label_alone() -> None:
    student, teacher, t = LOGITS, LOGITS[::-1] * 0.7, 2.0
    p, q = expit(student / t), expit(teacher / t)
    expected = t * t * (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))).mean()
    got = losses.binary_kd(torch.tensor(student), torch.tensor(teacher.copy()), t)
    assert float(got) == pytest.approx(expected)
    same = torch.tensor(teacher.copy())
    assert float(losses.binary_kd(same, same, t)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("gammas", [(0.0, 4.0, 0.05), (0.0, 0.0, 0.0), (0.5, 0.5, 0.0)])
def test_confident_logits_stay_finite(gammas: tuple[float, float, float]) -> None:
    sure = torch.tensor([[300.0, -300.0, 300.0, -300.0, 0.0]], requires_grad=True)
    truth = torch.tensor([[1.0, 1.0, 0.0, 0.0, 1.0]])
    student = torch.zeros(1, 5, requires_grad=True)
    for loss, of in (
        (losses.asymmetric(sure, truth, 0.0, *gammas), sure),
        (losses.binary_cross_entropy(sure, truth, 0.0), sure),
        (losses.binary_kd(student, sure.detach(), 1.0), student),
    ):
        (gradient,) = torch.autograd.grad(loss, of)
        assert torch.isfinite(loss) and torch.isfinite(gradient).all()


def test_a_batch_without_a_known_label_has_no_loss() -> None:
    x = torch.tensor(LOGITS, requires_grad=True)
    unknown = torch.full((6, 4), torch.nan)
    for loss in (
        losses.binary_cross_entropy(x, unknown, 0.0),
        losses.asymmetric(x, unknown, 0.0, 0.0, 4.0, 0.05),
    ):
        (gradient,) = torch.autograd.grad(loss, x)
        assert loss.item() == 0 and not gradient.any()


def test_the_recipe_chooses_the_loss(tmp_path: Path) -> None:
    folder = table(tmp_path, "path,a,b\n0.png,1,0\n1.png,0,\n")
    asked = {"name": "asymmetric", "gamma_negative": 2.0}
    x, t = {"logits": torch.tensor(LOGITS[:2, :2])}, torch.tensor(TRUTH[:2, :2])
    plain = task_for(read(folder)).label_loss(0.0)(x, t)
    focused = task_for(read(folder, loss=asked)).label_loss(0.0)(x, t)
    assert float(plain) == pytest.approx(float(losses.binary_cross_entropy(x["logits"], t, 0.0)))
    expected = by_hand(LOGITS[:2, :2], TRUTH[:2, :2], 0, 2, 0.05)
    assert float(focused) == pytest.approx(expected, rel=1e-5)


# Scores


def test_f1_of_an_image_counts_known_labels() -> None:
    said = np.array([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 1], [1, 0, 1, 0]], bool)
    truth = np.array(
        [[1, 1, 0, 1], [0, 0, 0, 0], [1, np.nan, 1, 0], [0, np.nan, 0, np.nan]], np.float32
    )
    assert f1(said, truth).tolist() == pytest.approx([4 / 5, 1.0, 2 / 4, 0.0])


def precision_by_counting(scores: np.ndarray, has: np.ndarray) -> float:
    """The step integral of precision over recall, threshold by threshold."""
    total, before = 0.0, 0.0
    for level in sorted(set(scores.tolist()), reverse=True):
        above = scores >= level
        recall, precision = has[above].sum() / has.sum(), has[above].mean()
        total, before = total + (recall - before) * precision, recall
    return total


@given(seeds, st.integers(2, 60), st.booleans())
def test_average_precision_is_the_area_under_the_steps(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n).round(0 if ties else 12)
    truth = rng.choice([0, 1, np.nan], size=n)
    truth[0] = 1
    known = np.isfinite(truth)
    expected = precision_by_counting(scores[known], truth[known] == 1)
    assert average_precision(scores, truth, np.ones((1, len(truth))))[0] == pytest.approx(expected)


def test_scores_equal_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(200, 5)).round(1)
    truth = (rng.random((200, 5)) < [0.5, 0.1, 0.9, 0.3, 0.02]).astype(float)
    ours = mean_average_precision(scores, truth, np.ones((1, len(truth))))[0]
    assert ours == pytest.approx(metrics.average_precision_score(truth, scores))
    said = scores > 0.3
    theirs = metrics.f1_score(truth, said, average="samples", zero_division=1.0)
    assert f1(said, truth).mean() == pytest.approx(theirs)


def test_a_label_that_no_image_has_has_no_average_precision() -> None:
    truth = np.array([0, np.nan, 0])
    assert np.isnan(average_precision(np.arange(3.0), truth, np.ones((1, 3)))).all()
    assert best_threshold(np.arange(3.0), truth) is None
    assert best_threshold(np.arange(3.0), truth + 1) is None


@given(seeds, st.integers(2, 40), st.booleans())
@example(5845, 7, True)  # an unknown label's score lies in the middle of the gap
def test_no_other_threshold_reaches_a_better_f1(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n).round(0 if ties else 6).astype(np.float32)
    truth = rng.choice([0, 1, np.nan], size=n)
    truth[:2] = 0, 1
    found = best_threshold(scores, truth)
    assert found is not None

    def reached(threshold: float) -> float:
        said = (scores > threshold)[None]
        return float(f1(said, truth[None])[0])

    others = [*scores.tolist(), scores.min() - 1]
    assert reached(found) == pytest.approx(max(map(reached, others)))
    known = scores[~np.isnan(truth)]
    assert np.abs(known - found).min() > 0  # between two scores that count, on none


def test_a_threshold_lies_in_the_middle_of_a_gap() -> None:
    assert best_threshold(np.array([-3.0, -1.0, 2.0, 5.0]), np.array([0, 0, 1, 1])) == 0.5


# Together


@pytest.fixture
def split(tmp_path: Path) -> Dataset:
    return draw_split(read(tagged(tmp_path / "data")), 0.25, 0)


def shown(data: Dataset, noise: float = 0.0) -> np.ndarray:
    """Logits that know the truth, shifted by 2: at 0 every label would be said."""
    task = task_for(data)
    truth = np.nan_to_num(task.targets(data), nan=0.5)
    drawn = np.random.default_rng(0).normal(size=truth.shape) * noise
    return (2 + 3 * (truth - 0.5) + drawn).astype(np.float32)


def test_thresholds_are_fitted_on_training_images_and_then_used(split: Dataset) -> None:
    logits, asked = shown(split), []

    def ask(indices: np.ndarray) -> dict[str, np.ndarray]:
        asked.extend(indices.tolist())
        return {"logits": logits[indices]}

    plain = task_for(split)
    fitted = plain.fit(ask, split)
    assert asked == split.indices("train").tolist()
    assert fitted == {"thresholds": [2.0, 2.0, 2.0, 0.0]}  # of the last nothing is known
    tuned = task_for(split, fitted)
    validation = split.indices("validation")
    before = plain.score(ask, split, validation, USUAL, in_run=True)
    after = tuned.score(ask, split, validation, USUAL, in_run=True)
    assert before.top1.value < after.top1.value
    (metric,) = after.further
    assert metric.value == 100.0 and metric.name == "mean average precision %"
    assert "mean over 3 labels" in metric.meaning and "without absent" in metric.meaning
    assert after.metric == "mean F1" and len(after.records) == len(validation)


def test_mean_average_precision_of_drawn_images_is_that_of_scikit_learn() -> None:
    """An image drawn twice counts twice; labels that no drawn image has are left out."""
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=(40, 3)), 1).astype(np.float32)  # some are equal
    truth = (rng.random((40, 3)) < [0.4, 0.2, 0.05]).astype(np.float32)
    truth[rng.random((40, 3)) < 0.1] = np.nan
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=30).astype(float)
    expected = []
    for drawn in weights:
        own = []
        for label in range(3):
            there = (drawn > 0) & np.isfinite(truth[:, label])
            if (truth[there, label] == 1).any():
                asked = truth[there, label], scores[there, label]
                own.append(metrics.average_precision_score(*asked, sample_weight=drawn[there]))
        expected.append(np.mean(own))
    assert mean_average_precision(scores, truth, weights) == pytest.approx(expected)
    never = np.zeros((40, 3), np.float32)
    assert mean_average_precision(scores, never, weights).tolist() == [0.0] * 30


def test_mean_average_precision_has_an_interval(split: Dataset) -> None:
    logits = shown(split, noise=3.0)
    validation = split.indices("validation")
    scored = task_for(split).score(
        lambda indices: {"logits": logits[indices]}, split, validation, USUAL, in_run=True
    )
    (metric,) = scored.further
    assert metric.interval is not None and metric.value == pytest.approx(metric.interval.value)
    assert 0 <= metric.interval.low < metric.interval.value < metric.interval.high <= 100


def test_what_is_told_of_an_image(split: Dataset) -> None:
    task = task_for(split, {"thresholds": [0.0, 2.0, 1.0, 0.0]})
    outputs = {"logits": np.array([[1, 1, 4, -1], [-1, 1, 0, -1]], np.float32)}
    first, second = task.answers(outputs, [Path("a.png"), Path("b.png")])
    assert [name for name, _ in first] == ["red", "bar"]
    assert [p for _, p in first] == pytest.approx(expit([4, 1]).tolist())
    assert task.lines(first) == ["   98.2  red", "   73.1  bar"]
    assert second == [] and task.lines(second) == ["none of its 4 labels"]
    moved = {"logits": outputs["logits"] + np.float32([[0, 0, 0, 0], [0, 0, 2, 0]])}
    assert task.changed_answers(outputs, moved) == 1


def test_the_guess_is_the_best_constant_answer(split: Dataset) -> None:
    named, share = task_for(split).guess(split, USUAL)
    truth = task_for(split).targets(split)[split.indices("validation")]
    sets = [np.broadcast_to(np.array(x), truth.shape) for x in np.ndindex(2, 2, 2, 2)]
    possible = [float(f1(x.astype(bool), truth).mean()) for x in sets]
    assert named == "the commonest labels" and share in possible
    assert 0.4 < share <= max(possible)


def test_weights_say_the_order_of_labels(split: Dataset) -> None:
    task = task_for(split)
    other = {"labels": ["red", "absent", "bar", "dot"], "not_in_training": []}
    predicted = task.spec.predicted.model_copy(update={"facts": other})
    metadata = {"spec": {"predicted": predicted.model_dump(mode="json")}}
    turned = Multilabel(task.check_weights(metadata))
    np.testing.assert_array_equal(turned.targets(split), task.targets(split)[:, [2, 3, 0, 1]])
    assert not task.same_outputs(metadata) and turned.same_outputs(metadata)
    assert task.check_weights({}) == task.spec
    metadata["spec"]["predicted"]["facts"]["labels"] = ["red", "blue"]
    with pytest.raises(UserError, match="1 only in the weights"):
        task.check_weights(metadata)
    with pytest.raises(UserError, match="not trained for multilabel"):
        task.check_weights({"spec": {"classes": ["a", "b"]}})


def test_other_images_are_judged_by_the_networks_labels(split: Dataset, tmp_path: Path) -> None:
    task = task_for(split)
    (tmp_path / "more").mkdir()
    more = table(tmp_path / "more", "path,absent,red,bar,dot,new\n0.png,1,0,,1,1\n")
    assert task.read_more(more, ()).images[0].truth == {
        "bar": None,
        "dot": 1,
        "red": 0,
        "absent": 1,
    }
    (more / "labels.csv").write_text("path,bar,dot\n0.png,1,0\n")
    with pytest.raises(UserError, match="no column 'red'"):
        task.read_more(more, ())


# Where others took for granted that an image has one class


def test_probabilities_of_a_sigmoid_are_never_taken_for_a_softmax() -> None:
    x = np.random.default_rng(0).normal(size=(24, 1)).astype(np.float32) * 4
    exclusive = probabilities_of(np.hstack([x, -x]), "sigmoid")  # one of the two, as a softmax
    assert scale_of(exclusive) == "softmax" and scale_of(exclusive, "sigmoid") == "sigmoid"
    np.testing.assert_allclose(logits_of(exclusive, "sigmoid"), np.hstack([x, -x]), atol=0.01)
    one = probabilities_of(x, "sigmoid")
    assert scale_of(one) is None and scale_of(one, "sigmoid") == "sigmoid"
    assert scale_of(x, "sigmoid") is None
    said = note_on(np.full((4, 3), 0.4) + np.eye(4, 3) / 10, "sigmoid")
    assert said is not None and "sum to 1" not in said


def test_teachers_of_several_labels_answer_with_their_mean_probability(split: Dataset) -> None:
    given = [torch.tensor(LOGITS), torch.tensor(-LOGITS[::-1].copy())]
    teachers = [lambda batch, x=x: {"logits": x} for x in given]
    (mean,) = Average(teachers, task_for(split))(None).values()
    expected = (expit(LOGITS) + expit(-LOGITS[::-1])) / 2
    np.testing.assert_allclose(expit(mean.numpy()), expected, rtol=1e-6)


def test_unlabelled_images_count_where_the_teacher_is_sure_of_each_label(split: Dataset) -> None:
    logits = torch.zeros(len(split.images), 4)
    first, second = split.indices("unlabelled")[:2]
    logits[first] = torch.tensor([4.0, -4.0, 5.0, -3.0])
    logits[second] = torch.tensor([9.0, -9.0, 9.0, 0.1])
    sure, facts = kept(
        lambda batch: {"logits": logits[torch.from_numpy(batch.indices)]},
        split,
        task_for(split),
        Unlabelled(min_confidence=0.9),
    )
    assert sure.tolist() == [first] and facts.validation_kept == 0


def test_mixed_images_have_both_labels_in_part(split: Dataset) -> None:
    """A mixed batch's loss is the weighed one of both, as of a target between 0 and 1."""
    x, t = torch.tensor(LOGITS), torch.tensor(np.nan_to_num(TRUTH))
    mix = Mix(0.3, np.array([1, 2, 3, 4, 5, 0]))
    partners = t[torch.from_numpy(mix.order)]
    loss = task_for(split).label_loss(0.0)
    both = 0.3 * loss({"logits": x}, t) + 0.7 * loss({"logits": x}, partners)
    blended = F.binary_cross_entropy_with_logits(x, 0.3 * t + 0.7 * partners)
    assert float(both) == pytest.approx(float(blended))


def test_drawn_labels_have_the_networks_probabilities() -> None:
    x = torch.tensor([[2.0, -1.0]]).repeat(20_000, 1).requires_grad_()
    torch.manual_seed(0)
    (gradient,) = torch.autograd.grad(losses.drawn(x), x)
    # Its mean is 0, and its mean square the Fisher information p (1 - p).
    p = expit(np.array([2.0, -1.0]))
    np.testing.assert_allclose(gradient.mean(0).numpy(), 0, atol=0.01)
    np.testing.assert_allclose((gradient**2).mean(0).numpy(), p * (1 - p), rtol=0.05)
