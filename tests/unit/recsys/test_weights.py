from __future__ import annotations

import numpy as np
import pytest

from recsys.errors import ArtefactError
from recsys.weights import load_weights, save_weights

ARRAYS = {
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "item_nums": np.array([5, 1, 2], np.int32),
    "indptr": np.array([0, 9], np.int64),
    "empty": np.zeros((0, 7), np.float32),
}


@pytest.mark.parametrize("mapped", [True, False])
def test_arrays_and_settings_come_back(tmp_path, mapped):
    save_weights(tmp_path, "Kind", {"tau": None}, ARRAYS)
    settings, arrays = load_weights(tmp_path, "Kind", mapped=mapped)
    assert settings == {"tau": None}
    assert arrays.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        assert arrays[name].dtype == values.dtype
        np.testing.assert_array_equal(arrays[name], values)
        assert arrays[name].flags.writeable is not mapped


@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("damage", [lambda raw: b"x", lambda raw: raw[:-4], lambda raw: b"", lambda raw: None])
def test_a_damaged_file_is_refused(tmp_path, mapped, damage):
    save_weights(tmp_path, "Kind", {}, ARRAYS)
    file = tmp_path / "model.safetensors"
    left = damage(file.read_bytes())
    if left is None:
        file.unlink()
    else:
        file.write_bytes(left)
    with pytest.raises(ArtefactError, match="cannot be read"):
        load_weights(tmp_path, "Kind", mapped=mapped)
