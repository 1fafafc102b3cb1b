from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recsys.checkpoints import Checkpoints

TENSORS = {"network/a": torch.tensor([1.5, -2.0]), "optimizer/0.step": torch.tensor(3.0)}
STATE = {"curve": [{"loss": 1.0}], "steps": 12}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c", "mine").save(TENSORS, STATE)
    found = Checkpoints(tmp_path / "c", "mine").load()
    assert found is not None
    assert found.state == STATE
    assert {name: value.tolist() for name, value in found.tensors.items()} == {
        "network/a": [1.5, -2.0],
        "optimizer/0.step": 3.0,
    }
    assert found.tensors["optimizer/0.step"].shape == ()


def test_the_newest_replaces_the_one_before_and_nothing_else_lies_about(tmp_path: Path) -> None:
    place = Checkpoints(tmp_path / "c", "mine")
    place.save(TENSORS, {"steps": 1})
    place.save({}, {"steps": 2})
    found = place.load()
    assert found is not None
    assert (found.state, found.tensors) == ({"steps": 2}, {})
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_another_trainings_checkpoint_is_not_used(tmp_path: Path) -> None:
    Checkpoints(tmp_path / "c", "mine").save(TENSORS, STATE)
    assert Checkpoints(tmp_path / "c", "yours").load() is None


def test_none_and_a_damaged_one_count_as_none(tmp_path: Path) -> None:
    place = Checkpoints(tmp_path / "c", "mine")
    assert place.load() is None
    place.save(TENSORS, STATE)
    (file,) = (tmp_path / "c").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    assert place.load() is None
    file.write_bytes(b"")
    assert place.load() is None


def test_a_half_written_draft_is_never_read(tmp_path: Path) -> None:
    place = Checkpoints(tmp_path / "c", "mine")
    place.save(TENSORS, {"steps": 1})
    (tmp_path / "c" / "checkpoint.tmp").write_bytes(b"half")
    found = place.load()
    assert found is not None
    assert found.state == {"steps": 1}


def test_removal_removes_the_folder(tmp_path: Path) -> None:
    place = Checkpoints(tmp_path / "c", "mine")
    place.remove()
    place.save(TENSORS, STATE)
    place.remove()
    assert not (tmp_path / "c").exists()


def test_short_epochs_are_not_each_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("recsys.checkpoints.time.monotonic", lambda: now)
    place = Checkpoints(tmp_path / "c", "mine", every_seconds=5)
    assert place.due()
    place.save({}, {})
    now = 104.0
    assert not place.due()
    now = 105.0
    assert place.due()
    assert Checkpoints(tmp_path / "d", "mine").due()
