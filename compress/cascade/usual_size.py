"""How large a photograph must be for what a stage looks at, as annotated training images tell."""

import math

import numpy as np

from compress.cascade.answer import view_of
from compress.cascade.evaluate import known_points
from compress.cascade.photograph import times_enough
from compress.cascade.spec import Look
from compress.data.coordinates import upright_size
from compress.data.dataset import Dataset
from compress.data.input_spec import InputSpec

MOST = 0.95  # of the images: in the others it looks at less, and such a JPEG is decoded again


def least_photograph_px(look: Look, spec: InputSpec, data: Dataset) -> int | None:
    """Return the longer side of a photograph that has enough pixels for a stage's crop or warp.

    In most training images, were they of that size; None where none has the points annotated, and
    where the whole photograph is looked at, of which that is known anyway.
    """
    training = data.indices("train")
    if not look.needs:
        return None
    sides = []
    for index, path in zip(training, data.paths(training), strict=True):
        points = known_points(data.images[index])
        if points.keys() >= set(look.needs):
            size = upright_size(path)
            view = view_of(look, spec, size, points)
            sides.append(max(size) / times_enough(view, spec))
    return math.ceil(np.quantile(sides, MOST)) if sides else None
