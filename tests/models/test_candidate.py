"""What a candidate tells of how it came to be."""

from torch import nn

from compress.data.input_spec import InputSpec
from compress.models.candidate import Candidate
from compress.models.provenance import Provenance
from compress.results.schema import PseudoLabels, Training


def test_unlabelled_images_of_an_earlier_training_are_still_told() -> None:
    spec = InputSpec(height=8, width=8, mean=(0.5,) * 3, std=(0.2,) * 3, classes=("a", "b"))
    fresh = Candidate(nn.Linear(1, 1), "nets:small", {}, spec, Provenance(("small",)))
    guessed = PseudoLabels(
        kept=5, of=7, min_confidence=0.1, temperature=1, validation_kept=0, validation_of=3,
        validation_right=None,
    )  # fmt: skip
    first = Training(
        description="distil kd", labelled_images=9, unlabelled_images=5, pseudo_labels=guessed,
        seconds=1,
    )  # fmt: skip
    last = Training(description="labels only", labelled_images=9, seconds=2)
    found = fresh.trained(first).trained(last).provenance.training
    assert found is not None
    assert (found.description, found.seconds) == ("labels only", 2)
    assert (found.unlabelled_images, found.pseudo_labels) == (5, guessed)
