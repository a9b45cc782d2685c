"""Puts recipes into a wheel; all else stands in pyproject.toml."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py


class WithRecipes(build_py):
    """Copies recipes/ to where compress/recipe/shipped.py looks, but those of others' images."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "compress", "shipped")
            others = ignore_patterns("right_whales", "*right_whale_heads*")
            copytree("recipes", target, ignore=others, dirs_exist_ok=True)


setup(cmdclass={"build_py": WithRecipes})
