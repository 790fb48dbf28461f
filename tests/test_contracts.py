"""Every contract over every learner."""

import contracts
import jax
import jax.numpy as jnp
import optax
import pytest
from contracts import WAYS, Case

from jaxmeta.inner import unroll
from jaxmeta.learners import from_scratch, gradient_learner, maml, prototypical
from jaxmeta.nn import Statistics, batch_norm, conv2d
from jaxmeta.types import Model


def small(outputs):
    """One block of conv4 and a linear layer: all that can go wrong, compiled in a second."""

    def init(key, x):
        kernel_key, head_key = jax.random.split(key)
        params = {
            "block0": {
                "kernel": jax.random.normal(kernel_key, (3, 3, 1, 6)) / 3,
                "scale": jnp.ones(6),
                "offset": jnp.zeros(6),
            },
            "head": {"kernel": jax.random.normal(head_key, (16 * 6, outputs)) / 10},
        }
        return params, Statistics(jnp.zeros(6), jnp.ones(6))

    def apply(params, state, x, mask=None, key=None, batch_statistics=True):
        block = params["block0"]
        x = conv2d(x, block["kernel"], stride=2)
        x, used = batch_norm(x, block["scale"], block["offset"], state, mask, batch_statistics)
        return jax.nn.relu(x).reshape(x.shape[0], -1) @ params["head"]["kernel"], used

    return Model(init, apply)


CLASSIFIER, EMBEDDING = small(WAYS), small(8)


def maml_case(**arguments):
    return Case(maml(CLASSIFIER, WAYS, steps=2, learning_rate=0.1, **arguments))


CASES = {
    "maml": maml_case(),
    "maml_inductive": maml_case(normalisation="inductive"),
    "maml_running": maml_case(normalisation="running"),
    "first_order_maml": maml_case(first_order=True),
    "meta_sgd": maml_case(learned_rates="parameter"),
    "rates_per_leaf_and_step": maml_case(learned_rates="leaf", rates_per_step=2),
    "anil": Case(
        gradient_learner(
            CLASSIFIER, unroll(optax.sgd(0.1), 2), WAYS, fast=lambda name: "head" in name
        )
    ),
    "rematerialised_adam": Case(
        gradient_learner(
            CLASSIFIER, unroll(optax.adam(1e-2, eps_root=1e-8), 2, rematerialise=True), WAYS
        ),
    ),
    "prototypical": Case(prototypical(EMBEDDING, WAYS), equivariant=True),
    "prototypical_inductive": Case(
        prototypical(EMBEDDING, WAYS, normalisation="inductive"), equivariant=True
    ),
    "from_scratch": Case(
        from_scratch(CLASSIFIER, WAYS, steps=3, learning_rate=1e-2),
        learns=False,
    ),
}
ROWS = [
    pytest.param(case, id=name, marks=pytest.mark.xdist_group(name)) for name, case in CASES.items()
]


@pytest.mark.parametrize("contract", contracts.CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("case", ROWS)
def test_contract(case, contract):
    contract(case)
