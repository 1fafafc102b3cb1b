from __future__ import annotations

import sys

import pytest

from recsys.errors import UsageError
from recsys.plugins import resolve
from recsys.rivals import FAMILIES

MINE = """
from {package}.helpers import SHIFT
from recsys.models.baselines import Popularity
from recsys.rivals import Family

def grid(histories, seed):
    for number in range(3):
        yield {{"number": number}}, Popularity.fit(histories)

FAMILY = Family(lambda histories, params, max_items, seed: Popularity.fit(histories), Popularity.load, grid)
NO_FAMILY = 3
"""


@pytest.fixture
def package(tmp_path, monkeypatch, request):
    """A package in the current directory, which is not on the path."""
    name = f"mine_{abs(hash(request.node.name)) % 10**8}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "helpers.py").write_text("SHIFT = 1\ndef help():\n    return 1\n")
    (folder / "model.py").write_text(MINE.format(package=name).replace("import SHIFT", "import help, SHIFT"))
    (folder / "broken.py").write_text("raise ValueError('no weights')\n")
    (folder / "ease.py").write_text("FAMILY = 1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    return name


def test_one_of_ours():
    found = resolve("ease")
    assert (found.name, found.spec, found.code) == ("ease", "ease", None)
    assert found.family is FAMILIES["ease"]


def test_one_brought_along_is_called_by_its_module(package):
    found = resolve(f"{package}.model:FAMILY")
    assert found.name == "model"
    assert not found.family.validated


def test_its_code_tells_it_from_another_version(package, tmp_path):
    found = resolve(f"{package}.model:FAMILY")
    before = found.code
    assert before == resolve(f"{package}.model:FAMILY").code
    helpers = tmp_path / package / "helpers.py"
    helpers.write_text(helpers.read_text() + "# changed\n")
    assert found.code != before


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("eese", "Did you mean ease"),
        ("ncff", "Did you mean ncf"),
        ("nowhere.at_all:FAMILY", "cannot be imported .ModuleNotFoundError"),
        ("{}.model:FAMILIA", "cannot be imported .AttributeError"),
        ("{}.model:NO_FAMILY", "is a int, not a recsys.rivals.Family"),
        ("{}.broken:FAMILY", "ValueError: no weights"),
        ("{}.ease:FAMILY", "would be shown as ease, which is a model of ours"),
    ],
)
def test_what_is_no_model_is_refused(package, spec, message):
    with pytest.raises(UsageError, match=message):
        resolve(spec.format(package), also=("ncf",))
