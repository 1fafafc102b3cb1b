from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from recsys import columns
from recsys.artefacts import write_table
from recsys.data.scale import Scale, read_figures, resolve_scale
from recsys.errors import ConfigError, SourceError


@pytest.fixture
def scale_of(tmp_path):
    def read(values, **settings):
        path = tmp_path / "ratings.parquet"
        n = len(values)
        write_table(
            path,
            pa.table(
                [["u"] * n, ["i"] * n, pa.array(values, pa.float32()), pa.nulls(n, columns.RATINGS.field(3).type)],
                schema=columns.RATINGS,
            ),
        )
        return resolve_scale(read_figures(path), **settings)

    return read


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3, 4, 5] * 4, (1, 5)),
        ([0.5, 1, 2.5, 4.5, 5] * 4, (0.5, 5)),
        ([0, 1] * 10, (0, 1)),
        ([1, 6, 8, 10] * 5, (1, 10)),
        ([7.5, 9, 3, 10] * 5, (0.5, 10)),
        ([20, 55, 80, 100] * 5, (0, 100)),
        ([0.3, 3.14, 4.2, 5] * 5, (0, 5)),
    ],
)
def test_usual_scales_are_read_off_the_data(scale_of, values, expected):
    scale = scale_of(values)
    assert (scale.minimum, scale.maximum, scale.origin) == (*expected, "data")


@pytest.mark.parametrize("stray", [7, 0, -1, float("nan"), float("inf"), 1000])
@pytest.mark.parametrize("n", [6, 100])
def test_one_stray_value_does_not_widen_the_scale(scale_of, stray, n):
    values = [1 + k % 5 for k in range(n - 1)]
    scale = scale_of([*values, stray])
    assert (scale.minimum, scale.maximum) == (1, 5)


def test_three_in_a_hundred_sevens_are_faults_and_one_in_four_are_a_scale(scale_of):
    assert scale_of([5, 4, 3, 2] * 24 + [7] * 4).maximum == 5
    assert scale_of([5, 4, 3, 7] * 25).maximum == 10


def test_the_configuration_comes_before_the_source_and_the_source_before_the_data(scale_of):
    values = [1, 2, 3, 4, 5] * 4
    known = {"rating_min": 0.5, "rating_max": 5.0}
    assert scale_of(values, known=known) == Scale(0.5, 5.0, "source")
    assert scale_of(values, minimum=0, maximum=10, known=known) == Scale(0.0, 10.0, "configuration")
    assert scale_of(values, maximum=10, known=known) == Scale(0.5, 10.0, "source, configuration")


def test_bounds_are_exact_in_the_precision_of_ratings(scale_of):
    assert scale_of([1, 4.9], maximum=4.9).maximum == float(np.float32(4.9))


def test_a_column_without_values_is_implicit_and_a_column_of_nan_is_not(scale_of):
    scale = scale_of([None, None])
    assert scale.implicit
    assert (scale.minimum, scale.maximum) == (None, None)
    assert not scale_of([float("nan")] * 3).implicit


def test_counts_of_plays_are_no_scale(scale_of):
    with pytest.raises(SourceError, match="above 100"):
        scale_of([1, 500, 900, 4000])


def test_a_scale_upside_down_is_refused(scale_of):
    with pytest.raises(ConfigError, match="not below"):
        scale_of([1, 2, 3], minimum=5, maximum=1)


def test_the_threshold_scales_with_the_scale():
    assert Scale(1, 10, "data").positive_from(4) == 8
    assert Scale(0.5, 5, "data").positive_from(4) == 4
    assert Scale(None, None, "implicit").positive_from(4) == 4


def test_the_newest_timestamp_is_in_microseconds(tmp_path):
    time = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    path = tmp_path / "ratings.parquet"
    rows = [
        ["u", "u"],
        ["a", "b"],
        pa.array([1, 2], pa.float32()),
        pa.array([None, time], columns.RATINGS.field(3).type),
    ]
    write_table(path, pa.table(rows, schema=columns.RATINGS))
    assert read_figures(path).newest == int(time.timestamp() * 1e6)
