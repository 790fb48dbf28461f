"""The usual way in JAX: the same learner with XLA's convolution and ``vmap`` over all tasks."""

import jax

from benchmarks.implementations import jaxmeta
from benchmarks.problem import Arrays, Data, Implementation, Problem
from jaxmeta.nn import batch_norm, max_pool
from jaxmeta.types import Array, Key, Model, PyTree


def direct(model: Model) -> Model:
    """A conv4 with the same parameters, whose convolution is ``lax.conv_general_dilated``."""

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        used = {}
        for name in state:
            block = params[name]
            x = jax.lax.conv_general_dilated(
                x, block["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x, used[name] = batch_norm(
                x, block["scale"], block["offset"], state[name], mask, batch_statistics
            )
            x = max_pool(jax.nn.relu(x))
        x = x.reshape(x.shape[0], -1)
        if "head" in params:
            x = x @ params["head"]["kernel"] + params["head"]["bias"][None]
        return x, used

    return Model(model.init, apply)


def build(problem: Problem, data: Data, parameters: Arrays) -> Implementation:
    """Builds the compiled meta-gradient."""
    model = direct(jaxmeta.make_model(problem))
    return jaxmeta.build(problem, data, parameters, model, at_once=True)
