"""A train state is saved field by field, and read back as far as it is asked for."""

import shutil
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.runs.checkpoint import (
    load,
    load_arrays,
    load_info,
    open_checkpoints,
    save,
    set_aside_unreadable,
)
from tests.runs.conftest import Saved

WHOLE = Saved(
    params={"w": jnp.arange(3.0), "empty": {}, "pair": (jnp.ones(1), [jnp.zeros(2)])},
    state=jnp.int32(2**31 - 1),  # a single array
    optimizer=optax.adam(0.1).init(jnp.ones(2, jnp.bfloat16)),
)


class Inference(NamedTuple):
    params: dict
    state: jax.Array


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "checkpoints"
    with open_checkpoints(path, higher_is_better=True) as checkpoints:
        save(checkpoints, 3, WHOLE, {"seconds": 1.5})
        save(checkpoints, 3, WHOLE._replace(state=jnp.int32(0)), {})  # changes nothing
        save(checkpoints, 5, WHOLE, {"seconds": 2.5})
    return path


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_all_fields_come_back_with_their_structure_and_types(directory):
    like = jax.eval_shape(lambda: WHOLE)
    with open_checkpoints(directory, True, read_only=True) as checkpoints:
        loaded, info = load(checkpoints, 3, like)
        assert load_info(checkpoints, 5) == {"seconds": 2.5}
    assert_same(loaded, WHOLE)
    assert info == {"seconds": 1.5}
    assert sorted(path.name for path in (directory / "3").iterdir() if path.is_dir()) == [
        "info",
        "optimizer",
        "params",
        "state",
    ]


def test_only_what_is_asked_for_is_read(directory, tmp_path):
    copy = shutil.copytree(directory, tmp_path / "copy")
    shutil.rmtree(copy / "3" / "optimizer")
    with open_checkpoints(copy, True, read_only=True) as checkpoints:
        loaded, _ = load(checkpoints, 3, Inference(WHOLE.params, WHOLE.state))
        assert_same(loaded, Inference(WHOLE.params, WHOLE.state))
        with pytest.raises(KeyError, match="optimizer"):
            load(checkpoints, 3, WHOLE)


def test_arrays_are_read_without_knowing_the_structure(directory):
    params = load_arrays(directory / "5", "params")
    assert_same(params["w"], np.arange(3, dtype=np.float32))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
    assert_same(load_arrays(directory / "5", "state"), np.int32(2**31 - 1))
    with pytest.raises(ValueError, match="no arrays of 'carry'"):
        load_arrays(directory / "5", "carry")


# When one array cannot be read, orbax closes the loop of threads that still read the others.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("item", ["params", "state", "optimizer"])
def test_damage_to_any_item_sets_the_checkpoint_aside(item, directory, tmp_path):
    copy = shutil.copytree(directory, tmp_path / "run" / "checkpoints")
    for file in (copy / "5" / item).glob("d/*"):
        file.write_bytes(file.read_bytes()[:20])
    (sentence,) = set_aside_unreadable(copy, WHOLE)
    (aside,) = (tmp_path / "run").glob("unreadable-5-*")
    assert str(aside) in sentence
    assert [path.name for path in copy.iterdir()] == ["3"]
    shutil.rmtree(copy / "3" / item)
    with pytest.raises(
        ValueError, match=f"No checkpoint in '{copy}' can be read .*another workdir"
    ):
        set_aside_unreadable(copy, WHOLE)
    assert (copy / "3").exists()
