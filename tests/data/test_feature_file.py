"""Features in a file: what cannot be read is said in one sentence."""

import numpy as np
import pytest

from jaxmeta.data import features

GOOD = {f"{split}_x": np.ones((4, 3)) for split in ("train", "valid", "test")}
GOOD |= {f"{split}_y": np.array([0, 0, 1, 1]) for split in ("train", "valid", "test")}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"test_x": None}, "test_x"),
        ({"train_x": np.ones((4, 3), np.int32)}, "int32"),
        ({"valid_x": np.ones((4, 2))}, "size 2"),
        ({"valid_x": np.full((4, 3), np.nan)}, "valid_x"),
        ({"valid_y": np.array([0.5, 1.0, 2.0, 3.0])}, "valid_y"),
        ({"train_y": np.array([0, 1])}, "train_y"),
    ],
)
def test_arrays_that_do_not_fit(change, says, tmp_path):
    arrays = {name: array for name, array in {**GOOD, **change}.items() if array is not None}
    np.savez(tmp_path / "features.npz", **arrays)
    with pytest.raises(ValueError, match=says):
        features(tmp_path / "features.npz")


@pytest.mark.parametrize("kind", ["absent", "cut", "npy", "text"])
def test_files_that_cannot_be_read(kind, tmp_path):
    path = tmp_path / "features.npz"
    if kind == "cut":
        np.savez(path, **GOOD)
        path.write_bytes(path.read_bytes()[:100])
    elif kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif kind == "text":
        path.write_text("no features")
    with pytest.raises(ValueError, match=r"experiments\.features"):
        features(path)
