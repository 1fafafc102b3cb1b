import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

DATE = ("--run-date", "2026-11-24")
pytestmark = pytest.mark.slow


def current(home: Path) -> dict:
    return json.loads((home / "exports" / "top_n" / "CURRENT").read_text())


def parts(home: Path) -> dict[str, bytes]:
    """The published bytes, by file."""
    folder = Path(current(home)["path"])
    return {path.name: path.read_bytes() for path in sorted(folder.glob("part-*.parquet"))}


def artefacts(home: Path) -> dict[str, str]:
    """When every artefact was made."""
    manifests = sorted((home / "artefacts").glob("*/*/manifest.json"))
    return {str(path.parent.relative_to(home)): json.loads(path.read_text())["created_at"] for path in manifests}


@pytest.fixture(scope="module")
def home(tmp_path_factory, marquee) -> Path:
    home = tmp_path_factory.mktemp("night") / "home"
    done = marquee(home, "nightly", *DATE)
    assert done.returncode == 0, done.stdout + done.stderr
    return home


def test_a_night_publishes_a_whole_audited_list(home):
    latest = json.loads((home / "runs" / "latest.json").read_text())
    assert latest["status"] == "published"
    assert latest["publication"]["generation"] == current(home)["generation"]
    lists = pq.read_table(latest["publication"]["path"]).to_pandas()
    assert lists.groupby("user_id").size().eq(20).all()
    assert lists["user_id"].nunique() == latest["publication"]["users"] == 80
    (validated,) = (home / "artefacts" / "validated").iterdir()
    seen = pq.read_table(validated / "ratings.parquet").to_pandas()
    assert not lists.merge(seen, on=["user_id", "item_id"]).size
    assert set(lists["item_id"]) <= set(pq.read_table(validated / "titles.parquet")["item_id"].to_pylist())
    assert lists["reason"].notna().all()
    assert {"ncf", "blend", "user_autoencoder", "ease", "ials", "item_knn", "popularity"} <= set(latest["metrics"])
    assert latest["decision"]["reason"]


def test_the_second_night_reuses_everything_and_says_so(home, marquee):
    before, made = current(home), artefacts(home)
    done = marquee(home, "nightly", *DATE)
    assert done.returncode == 0, done.stderr
    assert "reused" in done.stdout
    assert artefacts(home) == made
    assert current(home)["generation"] == before["generation"]


def test_another_home_publishes_the_same_bytes(home, tmp_path, marquee):
    other = tmp_path / "elsewhere"
    done = marquee(other, "nightly", *DATE)
    assert done.returncode == 0, done.stderr
    assert parts(other) == parts(home)
    assert current(other)["generation"] == current(home)["generation"]


def test_what_is_published_can_be_looked_at_compared_and_taken_back(home, marquee):
    user = pq.read_table(current(home)["path"])["user_id"][0].as_py()
    shown = marquee(home, "recommend", user, "--json")
    assert [line["rank"] for line in json.loads(shown.stdout)["lines"]] == list(range(1, 21))
    item = json.loads(shown.stdout)["lines"][0]["item_id"]
    assert marquee(home, "similar", item).returncode == 0
    unknown = marquee(home, "recommend", "nobody-has-this-id")
    assert unknown.returncode == 2
    assert "has no list" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    assert json.loads(marquee(home, "runs", "--json").stdout)
    first = current(home)["generation"]
    assert marquee(home, "nightly", "--run-date", "2026-11-25").returncode == 0
    assert current(home)["generation"] != first
    assert marquee(home, "rollback").returncode == 0
    assert current(home)["generation"] == first


def test_killed_at_any_moment_the_same_command_finishes_the_night(home, tmp_path, marquee):
    """kill -9 the whole process group at random moments; what had finished is not done again."""
    victim = tmp_path / "victim"
    rng = random.Random(7)
    kept: dict[str, str] = {}
    for _ in range(5):
        process = subprocess.Popen(
            [marquee.program, "nightly", *DATE],
            env=marquee.environment(victim),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(timeout=rng.uniform(4, 30))
        except subprocess.TimeoutExpired:
            _kill(process.pid)
            process.wait()
        made = artefacts(victim) if (victim / "artefacts").exists() else {}
        assert kept.items() <= made.items()
        kept = made
        pointer = victim / "exports" / "top_n" / "CURRENT"
        assert not pointer.exists() or Path(json.loads(pointer.read_text())["path"]).is_dir()
    done = marquee(victim, "nightly", *DATE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert kept.items() <= artefacts(victim).items()
    assert parts(victim) == parts(home)
    assert len(list((victim / "exports" / "top_n").glob("run_date=*/generation=*"))) == 1
    assert not list(victim.glob("checkpoints/*/*"))


def _kill(leader: int) -> None:
    family = [psutil.Process(leader), *psutil.Process(leader).children(recursive=True)]
    os.killpg(leader, signal.SIGKILL)
    for process in family:
        if process.is_running():
            process.kill()
    time.sleep(0.2)
