"""A section may stand in a file of its own, which recipes share: `teacher: teachers/vgg16.yaml`."""

import re
from pathlib import Path

from compress.recipe.yaml_file import Fault, RecipeFile, read_recipe_file
from compress.utils.errors import UserError

SUFFIX = r"\.ya?ml$"  # nothing else is read
EXAMPLES = {"data": "path: …", "teacher": "builder: …, weights: …"}  # of what stands in each


def include(file: RecipeFile) -> None:
    """Put the settings that a section's file holds in the place of its name.

    Its path is relative to the recipe, paths in it are relative to it. What is wrong with it is
    among the file's faults, and the section among those that could not be read.
    """
    for section, example in EXAMPLES.items():
        name = file.data.get(section)
        if not isinstance(name, str) or not re.search(SUFFIX, name) or section in file.unread:
            continue
        path = Path(file.resolved((section,), name))
        try:
            if not path.is_file():
                raise UserError(f"there is no file {path}: give its path relative to the recipe")
            found = read_recipe_file(path, example)
        except UserError as error:
            file.unread.add(section)
            file.faults.append(Fault(*file.place((section,)), section, str(error)))
            continue
        file.data[section] = found.data
        file.included[section] = path
        file.lines |= {(section, *at): line for at, line in found.lines.items()}
        file.faults += [x._replace(key=f"{section}.{x.key}") for x in found.faults]
