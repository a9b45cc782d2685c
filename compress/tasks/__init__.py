"""Tasks: what is predicted of an image, and when it is right; a folder each."""

from typing import Any

from compress.data.input_spec import InputSpec
from compress.tasks.base import Task
from compress.tasks.classification.task import Classification
from compress.tasks.keypoints.task import Keypoints


def task_of(spec: InputSpec) -> Task[Any]:
    """Return the task of the network that a spec belongs to."""
    return Keypoints(spec) if spec.points else Classification(spec)
