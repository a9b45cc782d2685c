"""Names in a weights file say which output is which class."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from compress.data.input_spec import InputSpec
from compress.models.checkpoint import read_checkpoint
from compress.models.class_names import check_class_names, order_noted
from compress.tasks import task_of
from compress.utils.errors import UserError

NUMBERS = tuple(str(number) for number in range(12))


def test_outputs_are_in_the_order_that_the_weights_name() -> None:
    as_text = sorted(NUMBERS)
    assert check_class_names(as_text, NUMBERS) == tuple(as_text)
    assert check_class_names(None, NUMBERS) == NUMBERS


def test_one_name_in_two_spellings_is_one_class() -> None:
    apart, composed = (unicodedata.normalize(form, "Möwe") for form in ("NFD", "NFC"))
    assert check_class_names([composed, "Alk"], ("Alk", apart)) == (apart, "Alk")


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (["a", "c"], r"1 only in the data \(b\); 1 only in the weights \(c\)"),
        (["a", "b", "b"], "some of them twice"),
        ([], r"2 only in the data \(a, b\)"),
    ],
)
def test_other_classes_are_refused(known: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        check_class_names(known, ("a", "b"))


B_FIRST = ("b", "a", "c")


@pytest.mark.parametrize(
    "noted",
    [
        {"classes": ["b", "a", "c"]},
        {"classes": ("b", "a", "c")},
        {"class_names": ["b", "a", "c"]},
        {"classes": "b,a,c"},
        {"classes": "b, a\nc"},
        {"classes": "['b', 'a', 'c']"},
        {"classes": {"0": "b", "1": "a", "2": "c"}},
        {"classes": {"c": 2, "a": 1, "b": 0}},
        {"idx_to_class": {2: "c", 1: "a", 0: "b"}},
        {"idx_to_class": {"a": 1, "b": 0, "c": 2}},  # written under the other's name
        {"class_to_idx": {"a": 1, "b": 0, "c": 2}},
        {"class_to_idx": "{'a': 1, 'b': 0, 'c': 2}"},
        {"class_to_idx": {"a": 1, "b": 0, "c": 2}, "classes": ["b", "a", "c"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_an_order_counts_however_it_is_written(
    noted: dict[str, Any], suffix: str, tmp_path: Path
) -> None:
    metadata = stored(noted, tmp_path / f"net.{suffix}")
    assert metadata["classes"] == list(B_FIRST)
    spec = InputSpec(height=8, width=8, mean=(0,) * 3, std=(1,) * 3, classes=("a", "b", "c"))
    turned = task_of(spec).check_weights(metadata)
    assert turned.classes == B_FIRST
    assert task_of(turned).same_outputs(metadata) and not task_of(spec).same_outputs(metadata)


def stored(noted: dict[str, Any], path: Path) -> dict[str, Any]:
    """The metadata of a file of weights that holds this beside them."""
    weights = {"fc.weight": torch.zeros(3, 4)}
    if path.suffix == ".pt":
        torch.save({"model": weights, **noted}, path)
    else:
        save_file(
            weights,
            path,
            {k: v if isinstance(v, str) else json.dumps(v) for k, v in noted.items()},
        )
    return read_checkpoint(path)[1]


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ({"class_to_idx": {"1": 0, "0": 1}}, ("1", "0")),
        ({"idx_to_class": {"0": "1", "1": "0"}}, ("1", "0")),
        ({"idx_to_class": {0: 1, 1: 0}}, ("1", "0")),
        ({"class_to_idx": {"2": 0, "0": 1, "1": 2}}, ("2", "0", "1")),
        ({"idx_to_class": {"0": "2", "1": "0", "2": "1"}}, ("2", "0", "1")),
    ],
)
def test_of_classes_that_are_numbers_the_name_says_what_is_the_index(
    noted: dict[str, Any], said: tuple[str, ...]
) -> None:
    assert check_class_names(order_noted(noted), tuple(sorted(said))) == said


@pytest.mark.parametrize(
    "noted",
    [
        {"classes": {"2": "0", "0": "1", "1": "2"}},  # which of the two are the indices?
        {"class_to_idx": {"a": 1, "b": 2, "c": 3}},
        {"class_to_idx": {"a": 0, "b": 0, "c": 1}},
        {"classes": [["n01", "a"], ["n02", "b"], ["n03", "c"]]},
        {"classes": "classes.txt"},
        {"class_names": True},
        {"classes": ["a", "b", "c"], "class_to_idx": {"a": 1, "b": 0, "c": 2}},
    ],
    ids=str,
)
def test_an_order_that_is_not_understood_is_refused(noted: dict[str, Any], tmp_path: Path) -> None:
    spec = InputSpec(height=8, width=8, mean=(0,) * 3, std=(1,) * 3, classes=("a", "b", "c"))
    for name in ("net.pt", "net.safetensors"):
        metadata = stored(noted, tmp_path / name)
        with pytest.raises(UserError, match=r"class.* of the weights .*: save .* as a list"):
            task_of(spec).check_weights(metadata)
        assert not task_of(spec).same_outputs(metadata)


def test_what_says_nothing_of_an_order_is_left_alone(tmp_path: Path) -> None:
    for noted in ({}, {"classes": 3}, {"classes": None}, {"classes": []}, {"classes": ""}):
        assert "classes" not in stored(noted, tmp_path / "net.pt")
    torch.save({"classes": torch.zeros(3), "fc.weight": torch.zeros(3, 4)}, tmp_path / "net.pt")
    tensors, metadata = read_checkpoint(tmp_path / "net.pt")
    assert tensors[""].keys() == {"classes", "fc.weight"} and not metadata
