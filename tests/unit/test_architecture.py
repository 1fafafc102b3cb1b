"""What may import what, and who may read the environment."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGES = ("flows", "tasks", "expectations", "recsys")
ONLY = {
    "mlflow": ("tasks/registry/", "tasks/pyfunc_model.py"),
    "great_expectations": ("tasks/validate.py", "expectations/"),
    "typer": ("flows/cli/",),
    "tomllib": ("flows/settings.py",),
    "pickle": ("recsys/workers.py",),
    "ray": ("tasks/engines/ray_",),
}
"""Module → where it may be imported, anywhere in a file. (workers.py: messages between a run's own two processes.)"""


@cache
def _modules(repository: Path) -> list[tuple[str, ast.Module]]:
    files = [file for package in PACKAGES for file in sorted((repository / package).rglob("*.py"))]
    return [(file.relative_to(repository).as_posix(), ast.parse(file.read_text(encoding="utf-8"))) for file in files]


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".", maxsplit=1)[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".", maxsplit=1)[0]


def test_the_import_contracts_hold(repository: Path) -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_imported_only_where_it_belongs(repository: Path, library: str) -> None:
    strangers = [
        name for name, tree in _modules(repository) if library in _imports(tree) and not name.startswith(ONLY[library])
    ]
    assert strangers == []


def test_only_settings_read_the_environment(repository: Path) -> None:
    readers = [
        name
        for name, tree in _modules(repository)
        if any(_reads_environment(node) for node in ast.walk(tree)) and name != "flows/settings.py"
    ]
    assert readers == []


def _reads_environment(node: ast.AST) -> bool:
    """``os.getenv``, ``os.environ.get``, ``os.environ[…]`` as a value. Handing it on to a child is no reading."""
    if isinstance(node, ast.Attribute):
        return (node.attr == "getenv" and _is_name(node.value, "os")) or (
            node.attr == "get" and _is_environ(node.value)
        )
    return isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and _is_environ(node.value)


def _is_environ(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "environ" and _is_name(node.value, "os")


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def test_nothing_heavy_happens_when_tasks_are_imported(repository: Path) -> None:
    heavy = {"mlflow", "great_expectations"}
    script = f"import sys, tasks.registry, tasks.validate; sys.exit(bool({heavy!r} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", script], cwd=repository, check=True)
