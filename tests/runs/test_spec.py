"""What a spec may name, what it makes, and how its mistakes are explained."""

import inspect
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import data
from jaxmeta.data import make_episode
from jaxmeta.losses import accuracy
from jaxmeta.runs.spec import DATA_SETS, EVERYTHING, PUBLIC, build, resolve


def test_a_spec_and_the_specs_inside_it_are_built():
    spec = {
        "make": "jaxmeta.learners.maml",
        "model": {"make": "jaxmeta.nn.mlp", "outputs": 1},
        "loss": {"function": "jaxmeta.losses.squared_error"},
        "steps": 2,
    }
    x, y = jnp.ones((2, 1)), jnp.ones((2, 1))
    params, _ = jax.eval_shape(build(spec).init, jax.random.key(0), make_episode(x, y, x, y))
    assert params["model"]["head"]["kernel"].shape == (40, 1)


def test_positional_arguments_are_a_list_by_their_name():
    clip = {"make": "optax.clip_by_global_norm", "max_norm": 1.0}
    schedule = {
        "make": "optax.linear_schedule",
        "init_value": 0.0,
        "end_value": 0.5,
        "transition_steps": 2,
    }
    sgd = {"make": "optax.sgd", "learning_rate": schedule}
    chain = build({"make": "optax.chain", "args": [clip, sgd]})
    state = chain.init(jnp.zeros(2))
    with jax.numpy_dtype_promotion("standard"):
        for rate in (0.0, 0.25, 0.5):
            updates, state = chain.update(jnp.array([3.0, 4.0]), state)
            np.testing.assert_allclose(updates, [-0.6 * rate, -0.8 * rate], rtol=1e-6)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"make": "jaxmeta.nn.mlp", "output": 1}, "no argument 'output': .*outputs"),
        ({"make": "jaxmeta.nn.mlp"}, "needs the argument 'outputs'"),
        ({"make": "jaxmeta.nn.mpl"}, "no 'mpl'.* mlp"),
        ({"make": "optax.adamm"}, "no 'adamm'.* adam"),
        ({"make": "nowhere.mlp"}, "'nowhere.mlp' cannot be imported"),
        ({"make": "jaxmeta.losses"}, "'jaxmeta.losses' is not a function"),
        ({"make": "mlp"}, "'mlp' .*give the dotted name"),
        ({"make": "..mlp"}, "'..mlp' .*give the dotted name"),
        ({"make": 3}, "'3' .*give the dotted name"),
    ],
)
def test_mistakes_are_explained(spec, words):
    with pytest.raises(ValueError, match=words):
        build(spec, EVERYTHING)


@pytest.mark.parametrize(
    "name",
    [
        # Through a module that one of ours imported, or an attribute of a function.
        "jaxmeta.data.images.os.system",
        "jaxmeta.data.os.system",
        "jaxmeta.nn.layers.jax.debug.print",
        "jaxmeta.learners.frames.support.jax.jit",
        "jaxmeta.learners.maml.__globals__",
        "jaxmeta.losses.jax",
        "jaxmeta.losses.Array",
        "jaxmeta.inner.InnerLoss",
        # Our own functions that are no factories, some of which write files or build specs.
        "jaxmeta.runs.restore",
        "jaxmeta.runs.workdir.write_atomically",
        "jaxmeta.runs.checkpoint.save",
        "jaxmeta.runs.spec.resolve",
        "jaxmeta.runs.spec.importlib",
        "jaxmeta.distributed.processes.join",
        "jaxmeta.data.images.cached",
        "jaxmeta.data.images",
        "jaxmeta.nn._private",
        # Modules of optax, and those it imported.
        "optax.jax",
        "optax.jax.jit",
        "optax.schedules",
        "optax._src.base.identity",
        "optax.schedules.jax.jit",
        "optax.transforms._masking",
        "optax.tree_utils.functools.partial",
        "optax.tree.functools",
        "optax.adam.__globals__",
        "optax.ScalarOrSchedule",
    ],
)
def test_only_public_functions_of_ours_and_of_optax_may_be_named(name):
    for spec in ({"make": name}, {"function": name}):
        with pytest.raises(ValueError, match=re.escape(f"'{name.rpartition('.')[0]}")):
            build(spec)


@pytest.mark.parametrize("name", ["os.system", "subprocess.run", "builtins.eval", "jax.jit"])
@pytest.mark.parametrize(
    "inside",
    [
        lambda spec: spec,
        lambda spec: {"make": "jaxmeta.nn.mlp", "outputs": spec},
        lambda spec: {"make": "jaxmeta.nn.mlp", "outputs": 1, "hidden": [1, [spec]]},
        lambda spec: {"steps": {"each": spec}},
        lambda spec: (spec,),
    ],
)
@pytest.mark.parametrize("key", ["make", "function"])
def test_other_packages_have_to_be_trusted_wherever_they_are_named(name, inside, key):
    package = name.partition(".")[0]
    with pytest.raises(ValueError, match=rf"'{name}'.*'{package}'.*trust=\('{package}',\)"):
        build(inside({key: name}), trust=("jaxmeta", f"{package}_", package[:-1], ""))


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A package of the user's own, which notes that it was imported."""
    (tmp_path / "mine_of_the_spec").mkdir()
    (tmp_path / "mine_of_the_spec" / "__init__.py").write_text("")
    (tmp_path / "mine_of_the_spec" / "nets.py").write_text("def twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "mine_of_the_spec"
    for name in ("mine_of_the_spec", "mine_of_the_spec.nets"):
        sys.modules.pop(name, None)


def test_what_is_not_trusted_is_not_even_imported(mine):
    spec = {"make": f"{mine}.nets.twice", "x": 21}
    for trust in ((), ("mine",), (f"{mine}.net",), ("nets",)):
        with pytest.raises(ValueError, match=f"'{mine}', which is not trusted"):
            build(spec, trust=trust)
    assert mine not in sys.modules
    for trust in ((mine,), ("other", mine), (f"{mine}.nets",), EVERYTHING):
        assert build(spec, trust=trust) == 42
    assert build([{"function": f"{mine}.nets.twice"}], trust=(mine,))[0](2) == 4


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_which_writes_files_is_only_for_data(name):
    for spec in ({"make": name}, {"make": "jaxmeta.nn.mlp", "outputs": {"function": name}}):
        with pytest.raises(ValueError, match=rf"'{name}' is a data set: only the data"):
            build(spec)
    assert build({"function": name}, data_sets=True).__name__ == name.rpartition(".")[2]


def test_whatever_reads_a_folder_is_a_data_set():
    for name in filter(lambda name: inspect.isfunction(getattr(data, name)), data.__all__):
        reads = {"path", "data_dir", "vectors"} & inspect.signature(
            getattr(data, name)
        ).parameters.keys()
        assert bool(reads) == (f"jaxmeta.data.{name}" in DATA_SETS)


def test_trust_is_no_text_whose_parts_would_be_trusted():
    with pytest.raises(ValueError, match=r"trust is 'cosmos'.*\('cosmos',\)"):
        build({"make": "os.system", "command": "true"}, trust="cosmos")


def test_the_public_functions_are_those_of_the_modules():
    assert resolve("jaxmeta.losses.accuracy") is accuracy
    for name in ("adam", "nadam", "chain", "warmup_constant_schedule", "contrib.muon"):
        assert callable(resolve(f"optax.{name}"))
    assert resolve("optax.schedules.linear_schedule") is optax.linear_schedule
    assert {"jaxmeta.gradients", "jaxmeta.objectives", "jaxmeta.pretraining"} < set(PUBLIC)
