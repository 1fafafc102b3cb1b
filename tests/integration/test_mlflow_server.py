"""Against a real MLflow server: a night over HTTP, a model that loads and serves without our code, and its death."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from recsys import columns
from recsys.artefacts import ArtefactRef, ArtefactStore
from recsys.bundle import BundleInfo, SplitFacts, load_bundle, write_bundle
from recsys.config import Config, TrackingConfig
from recsys.data.ids import IdMap
from recsys.data.split import align_titles
from recsys.errors import MarqueeError, RegistryError
from recsys.families import load_scorer
from recsys.histories import Histories
from recsys.models.linear import Ease
from tasks import registry as steps
from tasks.run import Run

pytestmark = pytest.mark.server
START_SECONDS = 180


@dataclass(frozen=True)
class Server:
    uri: str
    process: subprocess.Popen[bytes]

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"),
    ]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True)
    served = Server(f"http://127.0.0.1:{port}", process)
    try:
        wait_for(served, folder / "log.txt")
        yield served
    finally:
        served.signal(signal.SIGKILL)
        process.wait()


def wait_for(server: Server, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.process.poll() is None:
        try:
            with urllib.request.urlopen(server.uri + "/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the MLflow server did not start:\n{log.read_text()[-3000:]}")


def make_model(home: Path, name: str) -> ArtefactRef:
    items, users = IdMap.of([str(number) for number in range(12)]), IdMap.of([f"u{number}" for number in range(40)])
    rng = np.random.default_rng(0)
    histories = Histories.of_lists([rng.permutation(12)[:5].tolist() for _ in range(40)], 12)
    scorer = Ease.fit(histories, l2=1.0)
    split = SplitFacts(strategy="per-user-temporal", test_fraction=0.2, validation_fraction=0.2, seed=0)
    info = BundleInfo(family="ease", run_date=date(2026, 11, 20), seed=0, ordered=True, positive_from=4.0, split=split)
    with ArtefactStore(home).create("model", {}, {"name": name}) as (draft, ref):
        write_bundle(
            draft.path,
            info,
            items=items,
            titles=align_titles(columns.TITLES.empty_table(), items),
            users=users,
            histories=histories,
            measured=scorer,
            serving=scorer,
        )
    return ref


@pytest.fixture(scope="module")
def night(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("home")
    config = Config(home=home, tracking=TrackingConfig(uri=server.uri))
    run = Run(run_id="night-1", run_date=date(2026, 11, 20), config=config, started_at=datetime.now(UTC))
    return steps.open_night.fn(run)


OUTSIDE = """
import json, pathlib, sys, warnings
import mlflow, pandas as pd
from mlflow.pyfunc.scoring_server import init
from starlette.testclient import TestClient
model = mlflow.pyfunc.load_model("models:/marquee@champion")
import recsys.bundle
frame = pd.DataFrame({"user_id": ["u1", None], "history": [None, ["3", "1"]]})
answers = model.predict(frame, params={"n": 3})
client = TestClient(init(model))
records = {"dataframe_records": [{"user_id": "u1"}, {"history": ["3", "1"]}, {"user_id": "nobody"}], "params": {"n": 3}}
served = client.post("/invocations", json=records)
refused = client.post("/invocations", json={"dataframe_records": [{"history": "3"}]})
print(json.dumps({
    "code": recsys.bundle.__file__,
    "item_ids": answers["item_ids"].tolist(),
    "status": served.status_code,
    "served": served.json(),
    "refused": refused.status_code,
    "modules": sorted({name.split(".")[0] for name in sys.modules}),
}))
"""


def test_a_registered_model_loads_and_serves_with_nothing_of_ours_but_what_it_brought(
    server: Server, night: Run, tmp_path: Path
) -> None:
    bundle = make_model(night.home, "a")
    assert steps.register_model.fn(night, bundle, {"promote": True, "reason": "the first"}) == "1"
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": server.uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "PYTHONSAFEPATH": "1",
        "TMPDIR": str(tmp_path),  # where MLflow leaves what it downloads
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", OUTSIDE],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert "/code/recsys/" in told["code"]
    assert not {"tasks", "flows", "prefect", "great_expectations", "duckdb"} & set(told["modules"])
    expected = load_bundle(Path(bundle.path), load_scorer=load_scorer)
    lists = [expected.answer_users(["u1"], 3)[0].item_ids, expected.score_users([["3", "1"]], 3)[0].item_ids]
    assert told["item_ids"] == lists
    assert told["status"] == 200
    predictions = told["served"]["predictions"]
    assert [row["item_ids"] for row in predictions[:2]] == lists
    assert [row["basis"] for row in predictions] == ["user", "history", "popular"]
    assert told["refused"] == 400


def test_a_bundle_comes_back_over_http_and_a_run_has_a_page(night: Run) -> None:
    bundle = make_model(night.home, "b")
    before = {path.name: path.read_bytes() for path in Path(bundle.path).rglob("*") if path.is_file()}
    version = steps.register_model.fn(night, bundle, {"promote": True, "reason": "better", "against": "1"})
    bundle.file("bundle.json").write_text("damaged")
    found = steps.current_champion(night)
    assert found.version is not None
    assert (found.version.version, found.bundle, found.note) == (version, bundle, None)
    assert {path.name: path.read_bytes() for path in Path(bundle.path).rglob("*") if path.is_file()} == before
    record = json.loads((night.folder / "stages" / "tracking.json").read_text())
    assert record["details"]["url"].endswith(f"/runs/{night.tracking_run_id}")


def test_a_frozen_or_dead_server_promotes_nothing_and_is_told_in_time(
    server: Server, night: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Last: it ends the server."""
    bundle = make_model(night.home, "c")
    before = steps.current_champion(night).version
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    server.signal(signal.SIGSTOP)
    frozen = refusal(night, bundle)
    server.signal(signal.SIGCONT)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    assert steps.current_champion(night).version == before
    server.signal(signal.SIGKILL)
    server.process.wait()
    for text in (frozen, refusal(night, bundle)):
        assert text.startswith(f"MLflow at {server.uri}: logging the decision failed")  # the first that needs it
        assert "\n" not in text
    with pytest.raises(MarqueeError, match="marquee up"):
        steps.close_night.fn(night, "FAILED")


def refusal(night: Run, bundle: ArtefactRef) -> str:
    began = time.monotonic()
    with pytest.raises(RegistryError) as told:
        steps.register_model.fn(night, bundle, {"promote": True, "reason": "x", "against": "2"})
    assert time.monotonic() - began < 60
    return str(told.value)
