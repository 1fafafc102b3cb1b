"""Zips that mean harm."""

import stat
import zipfile
from pathlib import Path

import pytest

from recsys.data import archives
from recsys.data.archives import list_members, open_member
from recsys.errors import SourceError


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, data in members.items():
            zipped.writestr(name, data)
    return path


def test_members_are_listed_and_read(tmp_path: Path):
    path = archive(tmp_path / "a.zip", **{"ml/ratings.csv": b"1,2", "ml/": b""})
    assert list_members(path) == ["ml/ratings.csv"]
    with open_member(path, "ml/ratings.csv") as stream:
        assert stream.read() == b"1,2"


@pytest.mark.parametrize("name", ["../evil.csv", "a/../../evil.csv", "/etc/passwd", "C:\\evil.csv", "..\\evil.csv"])
def test_paths_that_lead_outside_are_refused(tmp_path: Path, name: str):
    path = archive(tmp_path / "a.zip", **{"ok.csv": b"1", name: b"2"})
    with pytest.raises(SourceError, match="points outside"):
        list_members(path)
    with pytest.raises(SourceError, match="points outside"), open_member(path, "ok.csv"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_links_are_refused(tmp_path: Path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        link = zipfile.ZipInfo("ratings.csv")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(link, "/etc/passwd")
    with pytest.raises(SourceError, match="is a link"):
        list_members(path)


def test_a_bomb_is_refused_before_it_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = archive(tmp_path / "a.zip", **{"ratings.csv": b"0" * (archives._SMALL + 1)})
    with pytest.raises(SourceError, match="would swell"):
        list_members(path)
    small = archive(tmp_path / "b.zip", **{"a.csv": bytes(range(256)) * 10, "b.csv": bytes(range(256)) * 10})
    monkeypatch.setattr(archives, "MAX_BYTES", 4_000)
    with pytest.raises(SourceError, match="would unpack to more"):
        list_members(small)


def test_encrypted_entries_are_refused(tmp_path: Path):
    path = archive(tmp_path / "a.zip", **{"ratings.csv": b"1,2"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match="is encrypted"):
        list_members(path)


def test_a_cut_off_archive_and_what_is_none_are_refused_by_name(tmp_path: Path):
    path = archive(tmp_path / "a.zip", **{"ratings.csv": b"1,2\n" * 10_000})
    path.write_bytes(path.read_bytes()[:-30])
    for file, reason in ((path, "not a whole zip"), (tmp_path / "none.zip", "no such file")):
        with pytest.raises(SourceError, match=reason) as caught:
            list_members(file)
        assert file.name in str(caught.value)


def test_a_member_that_is_not_there(tmp_path: Path):
    path = archive(tmp_path / "a.zip", **{"ratings.csv": b"1,2"})
    with pytest.raises(SourceError, match=r"no file 'movies\.csv'"), open_member(path, "movies.csv"):
        pass
