"""A fingerprint of the code that a training runs: what was trained by older code is trained again.

Artefacts are named by data and configuration; between releases the code changes too. Knows nothing of what is trained.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_PACKAGES = ("recsys", "benchmarks.rivals", "benchmarks.quality.bag")
_TOLD_ELSEWHERE = ("recsys.config", "recsys.errors", "recsys.artefacts", "recsys.workers", "recsys.checkpoints")
"""Not of the fingerprint: the configuration is of an artefact's own name, the others decide no figure."""


def fingerprint(*modules: str) -> str:
    """Eight hex digits of the code of modules and of all that they import of ours; comments and docstrings aside."""
    reached: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached[module], imported = _read(module)
            waiting += imported
    text = "".join(f"{module}\n{code}\n" for module, code in sorted(reached.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@cache
def _read(module: str) -> tuple[str, tuple[str, ...]]:
    """What a module does, as text, and the modules of ours that it imports."""
    tree = ast.parse(_path(module).read_text(encoding="utf-8"))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("recsys."):
            names.add(node.value.partition(":")[0])  # as recsys.families names the classes that it opens
        _strip(node)
    ours = sorted(name for name in names if name.startswith(_PACKAGES) and name not in _TOLD_ELSEWHERE)
    return ast.dump(tree), tuple(name for name in ours if _path(name).is_file())


def _strip(node: ast.AST) -> None:
    """Take the docstrings out of a block."""
    body = getattr(node, "body", None)
    if isinstance(body, list):
        node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _path(module: str) -> Path:
    file = ROOT.joinpath(*module.split("."))
    return file.with_suffix(".py") if file.with_suffix(".py").is_file() else file / "__init__.py"
