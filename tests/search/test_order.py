"""In which order candidates are tried first."""

from collections.abc import Callable
from pathlib import Path

from compress.recipe.load import load_recipe
from compress.search.order import in_order
from tests.search.laboratory import TRAIN, student


def test_libraries_come_first_then_parameters_then_other_networks(
    shapes: Path, write_recipe: Callable[..., Path]
) -> None:
    recover = {"distill": {"train": TRAIN}}
    candidates = {
        "binary": [*student(), {"binarize": {"train": TRAIN}}],
        "student_int8": [*student(), {"quantize": {}}],
        "student": student(),
        "pruned": [{"prune": {"ratio": 0.5}}, recover],
        "low_rank": [{"factorize": {"ratio": 0.5}}, recover],
        "narrow": [{"prune": {"ratio": 0.5}}],
        "low_rank_at_once": [{"factorize": {"ratio": 0.5}}],
        "int8": [{"quantize": {}}],
    }
    teacher = {"builder": "teachers.vgg:vgg16_bn", "image_size": 32, "train": TRAIN}
    written = {"name": "s", "data": {"path": str(shapes)}, "teacher": teacher}
    written["measure"] = {"runtimes": ["onnxruntime", "openvino"]}
    recipe = load_recipe(write_recipe(written | {"candidates": candidates}))
    assert list(in_order(recipe)) == [
        *("int8", "low_rank_at_once", "narrow"),
        *("low_rank", "pruned", "student", "student_int8", "binary"),
    ]
