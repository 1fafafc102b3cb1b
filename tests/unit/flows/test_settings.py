"""Where settings come from, which wins, and how what does not fit is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.settings import load_config, process_environment, tracking_uri
from recsys.config import Config
from recsys.errors import ConfigError


def _toml(folder: Path, text: str) -> Path:
    file = folder / "marquee.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_without_anything_there_are_defaults_and_an_absolute_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(environment={})
    assert config == Config(home=tmp_path / ".marquee")


def test_the_environment_wins_over_the_file_and_the_caller_over_both(tmp_path: Path) -> None:
    file = _toml(tmp_path, 'seed = 1\n[export]\nn = 5\nsimilar = 6\n[source]\nkind = "files"\nratings = "r.csv"\n')
    environment = {"MARQUEE_EXPORT__N": "7", "MARQUEE_HOME": str(tmp_path / "env")}
    config = load_config(file, environment=environment)
    assert (config.seed, config.export.n, config.export.similar) == (1, 7, 6)
    assert config.source.ratings == "r.csv"
    assert config.home == tmp_path / "env"
    config = load_config(file, tmp_path / "arg", {"export": {"n": 9}}, environment=environment)
    assert (config.export.n, config.export.similar, config.home) == (9, 6, tmp_path / "arg")


def test_the_environment_names_the_file(tmp_path: Path) -> None:
    file = _toml(tmp_path, "seed = 3\n")
    assert load_config(environment={"MARQUEE_CONFIG": str(file)}).seed == 3


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("MARQUEE_AUTOENCODER__EPOCHS", "12", "autoencoder.epochs", 12),
        ("MARQUEE_AUTOENCODER__EPOCHS", "none", "autoencoder.epochs", None),
        ("MARQUEE_AUTOENCODER__EPOCHS", "", "autoencoder.epochs", None),
        ("MARQUEE_NCF__LEARNING_RATE", "1e-3", "ncf.learning_rate", 1e-3),
        ("MARQUEE_VALIDATION__ALLOW_ROW_CHANGE", "true", "validation.allow_row_change", True),
        ("MARQUEE_EXPORT__BLOCKED", "007, 12", "export.blocked", ("007", "12")),
        ("MARQUEE_EXPORT__BLOCKED", '["a,b"]', "export.blocked", ("a,b",)),
        ("MARQUEE_EXPORT__BLOCKED", "", "export.blocked", ()),
        ("MARQUEE_SOURCE__COLUMNS", '{"user_id": "viewer"}', "source.columns", {"user_id": "viewer"}),
        ("MARQUEE_EXPORT__REGION", "12", "export.region", "12"),
        ("MARQUEE_SEED", "4", "seed", 4),
    ],
)
def test_text_in_the_environment_becomes_what_the_setting_is(
    variable: str, text: str, path: str, value: object
) -> None:
    found: object = load_config(environment={variable: text})
    for part in path.split("."):
        found = getattr(found, part)
    assert found == value


def test_what_is_no_setting_is_left_alone() -> None:
    assert load_config(environment={"MARQUEE_TEST_DATA": "/x", "PATH": "/bin"}).seed == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[ncf]\nepocs = 3\n", ["unknown key epocs in [ncf]", "nearest known one is epochs"]),
        ("[nfc]\nepochs = 3\n", ["unknown key nfc at the top level", "nearest known one is ncf"]),
        ("[ncf]\nzzzzzz = 3\n", ["unknown key zzzzzz in [ncf]", "Known there: batch_size"]),
        ("[ncf]\nepochs = 0\n", ["epochs in [ncf] is 0", "greater than or equal to 1"]),
        ('[source]\nkind = "sampel"\n', ["kind in [source] is 'sampel'", "'sample'"]),
        ("ncf = 3\n", ["ncf at the top level is 3"]),
        ("[ncf]\nepochs = \n", ["not TOML", "line 2"]),
        ("[ncf]\nepocs = 3\nlerning_rate = 3\n", ["and 1 more"]),
    ],
)
def test_a_fault_in_the_file_is_one_paragraph(tmp_path: Path, text: str, words: list[str]) -> None:
    file = _toml(tmp_path, text)
    with pytest.raises(ConfigError) as fault:
        load_config(file, environment={})
    told = str(fault.value)
    assert told.startswith(str(file))
    assert "\n" not in told
    assert fault.value.exit_code == 2
    for word in words:
        assert word in told


def test_a_fault_in_the_environment_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="MARQUEE_NCF__EPOCS in the environment: unknown key epocs"):
        load_config(environment={"MARQUEE_NCF__EPOCS": "3"})
    with pytest.raises(ConfigError, match=r"MARQUEE_NCF__EPOCHS in the environment: epochs in \[ncf\] is 'x'"):
        load_config(environment={"MARQUEE_NCF__EPOCHS": "x"})
    with pytest.raises(ConfigError, match="MARQUEE_SEED__X in the environment"):
        load_config(environment={"MARQUEE_SEED__X": "1"})
    with pytest.raises(ConfigError, match="MARQUEE_NCF__EPOCHS"):
        load_config(environment={"MARQUEE_NCF": "1", "MARQUEE_NCF__EPOCHS": "2"})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml", environment={})
    latin = tmp_path / "latin.toml"
    latin.write_bytes('home = "caf\xe9"'.encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(latin, environment={})


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "bom.toml"
    file.write_bytes(b"\xef\xbb\xbfseed = 5\n")
    assert load_config(file, environment={}).seed == 5


@given(st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0="), max_size=12), st.text()))
def test_no_environment_breaks_anything_but_by_a_told_fault(variables: dict[str, str]) -> None:
    environment = {f"MARQUEE_{name}": value for name, value in variables.items() if name != "CONFIG"}
    told = ""
    try:
        load_config(environment=environment)
    except ConfigError as fault:
        told = str(fault)
    assert "\n" not in told


def test_everything_that_libraries_write_lies_under_home(tmp_path: Path) -> None:
    environment = process_environment(Config(home=tmp_path))
    for name in ("PREFECT_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME"):
        assert Path(environment[name]).is_relative_to(tmp_path)
    for name in ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "MLFLOW_TRACKING_URI"):
        assert f":///{tmp_path}/" in environment[name]


def test_a_configured_tracking_server_is_used(tmp_path: Path) -> None:
    config = load_config(home=tmp_path, overrides={"tracking": {"uri": "http://mlflow:5000"}}, environment={})
    assert tracking_uri(config) == "http://mlflow:5000"
