"""Names in a weights file say which output is which class."""

import unicodedata

import pytest

from compress.models.class_names import check_class_names
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
