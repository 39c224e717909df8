"""What holds for the project as a whole: what is installed, who imports whom, how long things may grow."""

from __future__ import annotations

import ast
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = ("kpybroker", "wire", "storage")
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500
EXCEPTIONS = Path(__file__).with_name("size_exceptions.json")


def modules() -> Iterator[Path]:
    """Every module of ours, each once: kpybroker/wire and kpybroker/storage are links to folders beside it."""
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if folder != "kpybroker" or path.resolve() == path:
                yield path


def sizes() -> dict[str, int]:
    """Lines of each module and function that is over its limit, by "module.py" or "module.py:name"."""
    over = {}
    for path in modules():
        text = path.read_text()
        name = str(path.relative_to(ROOT))
        if (lines := text.count("\n")) > MODULE_LINES_MAX:
            over[name] = lines
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if (lines := node.end_lineno - node.lineno + 1) > FUNCTION_LINES_MAX:
                    over[f"{name}:{node.name}"] = lines
    return over


def test_nothing_grows_beyond_its_limit() -> None:
    """Functions of 70 lines, modules of 500. What is over is listed in size_exceptions.json, and may only shrink."""
    listed: dict[str, int] = json.loads(EXCEPTIONS.read_text())
    over = sizes()
    grown = {name: lines for name, lines in over.items() if lines > listed.get(name, 0)}
    assert not grown, "split these, rather than listing them"
    shrunk = {name: over.get(name, "within the limit") for name, lines in listed.items() if over.get(name) != lines}
    assert not shrunk, "smaller than listed: write the new size into size_exceptions.json, or take the entry out"


@pytest.mark.parametrize("name", ["wire", "storage"])
def test_the_folders_beside_the_package_cannot_be_imported(name: str) -> None:
    """A second copy of every class would come from it."""
    assert importlib.util.find_spec(name) is None
    result = subprocess.run([sys.executable, "-P", "-c", f"import {name}"], capture_output=True, text=True, check=False)
    assert f"No module named '{name}'" in result.stderr
    assert importlib.util.find_spec(f"kpybroker.{name}") is not None


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The files in a wheel built from a copy of what it is built from."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in CODE:
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(build, cwd=source, check=True)
    (file,) = (source / "dist").glob("*.whl")
    return zipfile.ZipFile(file).namelist()


def test_a_wheel_has_only_kpybroker_at_top_level(wheel: list[str]) -> None:
    assert {name.partition("/")[0].partition("-")[0] for name in wheel} == {"kpybroker"}


def test_a_wheel_has_every_module(wheel: list[str]) -> None:
    inside = {"kpybroker/" + str(path.relative_to(ROOT)).removeprefix("kpybroker/") for path in modules()}
    assert inside - set(wheel) == set(), "a folder without __init__.py is left out"
    assert "kpybroker/py.typed" in wheel


def test_who_imports_whom() -> None:
    """The layers and the rules of pyproject.toml, [tool.importlinter]."""
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", ["run", "prometheus", "test", "bench", "lock"])
def test_lock_files_name_no_host(name: str) -> None:
    """Whoever installs from them uses the index that is set up there. Every version is pinned by its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert not any(line.startswith("--") for line in text.splitlines())
    pinned = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert all("==" in line and line.endswith("\\") for line in pinned)


def test_the_lock_has_every_dependency() -> None:
    """A dependency that is added to pyproject.toml comes with `make lock`."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    locked = {line.partition("==")[0] for line in (ROOT / "requirements/run.txt").read_text().splitlines()}
    for dependency in project["dependencies"]:
        assert dependency.partition(">")[0] in locked
