"""The house stays as docs/architecture.md draws it; import-linter has the rest."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "compress"
DISCOVERY = {
    "runtimes/__init__.py",
    "methods/__init__.py",
    "models/builders.py",
    "tasks/__init__.py",
}


def test_few_files_lie_flat() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 6


def test_modules_are_imported_by_name_in_discovery_alone() -> None:
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            name = getattr(node, "attr", getattr(node, "id", ""))
            if name in ("import_module", "__import__"):
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == DISCOVERY


def test_nothing_is_patched_by_a_string_path() -> None:
    patched = re.compile(r'setattr\(\s*f?"[\w{}]+\.')
    files = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    assert not [path for path in files if patched.search(path.read_text("utf-8"))]
