"""The wheel in an environment of its own: it leaves one name there, and runs a shipped recipe."""

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
SOURCES = ("compress", "teachers", "students", "recipes", "pyproject.toml", "setup.py", "README.md")
LITTLE = (
    "data.settings.individuals=4", "data.settings.pictures=72", "data.settings.unlabelled=8",
    "data.settings.size=32", "teacher.settings.width=0.25", "teacher.settings.classifier_width=16",
    "teacher.image_size=32", "teacher.train.epochs=1",
    "candidates.shufflenet_v2_x1_0.0.distill.image_size=32",
    "candidates.shufflenet_v2_x1_0.0.distill.views=1",
    "candidates.shufflenet_v2_x1_0.0.distill.train.epochs=1", "measure.processes=1",
    "measure.rounds=5", "measure.throughput_batch=2", "measure.throughput_rounds=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and another's package of the same name.

    What the wheel needs is lent by the environment that the tests run in; what is installed there
    as editable is not, since .pth files are not read then.
    """
    folder = tmp_path_factory.mktemp("wheel")
    sources, made = folder / "sources", folder / "env"
    for name in (*SOURCES, "LICENSE", "MANIFEST.in"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, (sources.mkdir(exist_ok=True) or sources) / name)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, sources)
    venv.create(made)
    python = made / "bin" / "python"
    (wheel,) = folder.glob("compress-*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel)
    packages = installed_in(made)
    assert {x.name for x in packages.iterdir() if x.suffix != ".dist-info"} == {"compress"}
    (packages / "lent.pth").write_text("\n".join(site.getsitepackages()))
    (packages / "teachers").mkdir()
    (packages / "teachers" / "__init__.py").write_text("raise ImportError('of somebody else')")
    return made


def installed_in(environment: Path) -> Path:
    (packages,) = environment.glob("lib/python*/site-packages")
    return packages


def run(*words: object, cwd: Path | None = None) -> str:
    without = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, words)], env=without, cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_shipped_recipe_runs_from_anywhere(environment: Path, tmp_path: Path) -> None:
    compress = environment / "bin" / "compress"
    assert "distill_shufflenet" in run(compress, "recipes", cwd=tmp_path)
    less = [f"--set={setting}" for setting in LITTLE]
    told = run(compress, "run", "distill_shufflenet", *less, cwd=tmp_path)
    assert "shufflenet_v2_x1_0 (no teacher)" in told
    assert (tmp_path / "reports" / "distill_shufflenet" / "report.html").is_file()


def test_where_anothers_package_was_imported_first_it_is_said(
    environment: Path, tmp_path: Path
) -> None:
    other = tmp_path / "teachers"
    other.mkdir()
    (other / "__init__.py").write_text("")
    code = (
        "import teachers\n"
        "from compress.models.builders import resolve\n"
        "from compress.utils.errors import UserError\n"
        "print(resolve('students.binary:binary_resnet18').__module__)\n"
        "try:\n"
        "    resolve('teachers.vgg:vgg16_bn')\n"
        "except UserError as error:\n"
        "    print(error)\n"
    )
    told = run(environment / "bin" / "python", "-c", code, cwd=tmp_path)
    assert told.startswith("students.binary\nteachers is another package in this process")
    assert str(other) in told
