"""Puts recipes, teachers and students where a wheel has them; all else stands in pyproject.toml."""

from pathlib import Path
from shutil import copytree, ignore_patterns, rmtree

from setuptools import setup
from setuptools.command.build_py import build_py


class AllBelowOneName(build_py):
    """Leaves nothing beside compress, since others have packages called teachers, too.

    recipes/, but those of others' images, go where compress/recipe/shipped.py looks, and the
    packages of networks where compress/models/builders.py does. Installed as editable, all stays
    where it is.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "compress", "shipped")
            others = ignore_patterns("right_whales", "*right_whale*")
            copytree("recipes", target, ignore=others, dirs_exist_ok=True)
            for package in ("teachers", "students"):
                networks = Path(self.build_lib, "compress", "networks", package)
                copytree(Path(self.build_lib, package), networks, dirs_exist_ok=True)
                rmtree(Path(self.build_lib, package))


setup(cmdclass={"build_py": AllBelowOneName})
