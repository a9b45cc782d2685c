"""Classes that are numbers are in the order of numbers, as pandas writes them, too."""

from pathlib import Path

import pytest

from compress.data.dataset import Dataset, Sample


@pytest.mark.parametrize(
    "names",
    [
        ("0.0", "1.0", "2.0", "10.0"),
        ("-10", "-1.5", "0.25", "2", "10.0"),
        ("99999999999999998", "99999999999999999"),  # one and the same as floats
        ("1.0", "10.0", "2.0", "x"),
        ("1.", "10.", "2."),
    ],
)
def test_labels_that_are_numbers(names: tuple[str, ...]) -> None:
    images = tuple(Sample(f"{i}.png", name) for i, name in enumerate(reversed(names)))
    assert Dataset(Path(), images).classes == names
