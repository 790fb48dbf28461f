"""Parameters of one run in another: the values, the left-overs, and what does not fit."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxmeta.runs.init_from import graft, read_params


class Layer(NamedTuple):
    kernel: Any
    bias: Any


def layer(value, width=2):
    return {"kernel": jnp.full((width, 2), value), "bias": jnp.full(2, value)}


HERE = {"model": {"block0": layer(0.0), "block1": layer(0.0)}, "scale": jnp.zeros(())}
THERE = {"model": {"block0": layer(1.0), "head": layer(2.0)}, "scale": jnp.ones(())}


def test_the_parameters_of_the_best_checkpoint_are_read_without_the_learner(trained):
    folder, states = trained
    params, step = read_params(folder)
    assert step == 2
    assert jax.tree.structure(params) == jax.tree.structure(states[2].params)
    jax.tree.map(np.testing.assert_array_equal, params, states[2].params)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(params))
    initial = jax.tree.map(jnp.zeros_like, states[2].params)
    grafted = graft(initial, params)
    assert grafted.kept == grafted.unused == []
    jax.tree.map(np.testing.assert_array_equal, grafted.params, states[2].params)


def test_no_run_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=f"'{tmp_path}' holds no run .*give the workdir"):
        read_params(tmp_path)


def test_the_whole_with_left_overs_on_both_sides():
    params, kept, unused = graft(HERE, THERE)
    expected = {**HERE, "model": {**HERE["model"], "block0": layer(1.0)}, "scale": jnp.ones(())}
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert sorted(kept) == ["model/block1/bias", "model/block1/kernel"]
    assert sorted(unused) == ["model/head/bias", "model/head/kernel"]


def test_a_part_into_another_part():
    params, kept, unused = graft(HERE, THERE, at="model/block1", take="model/head")
    expected = {**HERE, "model": {**HERE["model"], "block1": layer(2.0)}}
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert kept == unused == []
    leaf, _, _ = graft(HERE, THERE, at="model/block1/bias", take="model/head/bias")
    np.testing.assert_array_equal(leaf["model"]["block1"]["bias"], [2, 2])
    np.testing.assert_array_equal(leaf["model"]["block1"]["kernel"], np.zeros((2, 2)))


def test_names_count_and_containers_do_not():
    here = [Layer(jnp.zeros((2, 2)), jnp.zeros(2)), (jnp.zeros(1),)]
    there = {"0": layer(3.0), "1": [np.ones(1, np.float32)]}
    params, kept, unused = graft(here, there)
    assert isinstance(params[0], Layer)
    np.testing.assert_array_equal(params[0].kernel, np.full((2, 2), 3.0))
    np.testing.assert_array_equal(params[1][0], [1])
    assert kept == unused == []


def test_arrays_go_where_those_they_replace_lie():
    mesh = jax.make_mesh((2,), ("x",), devices=jax.devices()[:2])
    sharding = NamedSharding(mesh, PartitionSpec("x"))
    params, _, _ = graft(
        {"w": jax.device_put(jnp.zeros(4), sharding)}, {"w": np.ones(4, np.float32)}
    )
    assert params["w"].sharding == sharding
    assert graft({"w": np.zeros(2)}, {"w": np.ones(2)}).params["w"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("at", "take", "words"),
    [
        ("model/blok0", "model/head", r"no 'model/blok0' in this run's .*model/block0"),
        ("model", "modle", r"no 'modle' in the other run's .*model"),
        ("mod", "model", r"no 'mod' in this run's"),
        ("model", "scale", r"(?s)model.*scale.*block0/kernel.*name the parts that correspond"),
    ],
)
def test_a_part_that_is_not_there(at, take, words):
    with pytest.raises(ValueError, match=words):
        graft(HERE, THERE, at=at, take=take)


def test_another_shape_or_type_is_refused():
    there = {"model": {"block0": layer(1.0, width=3)}}
    words = r"'model/block0/kernel' is float32\[2, 2\] but .* is float32\[3, 2\]: .*take a part"
    with pytest.raises(ValueError, match=words):
        graft(HERE, there)
    half = {"scale": jnp.ones((), jnp.float16)}
    with pytest.raises(ValueError, match=r"'scale' is float32\[\] but .* is float16\[\]"):
        graft(HERE, half)
