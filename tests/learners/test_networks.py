"""The larger networks under learners: every learner's outer gradient can be traced on each."""

import jax
import jax.numpy as jnp
import pytest

from jaxmeta import learners
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import chained, mlp, resnet12, resnet18, vit
from jaxmeta.objectives import episodic
from jaxmeta.types import Batch, Episode

WAYS = 2
NETWORKS = {
    "resnet12": resnet12(filters=[2, 3, 4, 5]),
    "resnet18": resnet18(filters=[2, 3, 4, 5]),
    "vit": vit(patch=4, width=8, depth=1, heads=2),
}
LEARNERS = {
    "maml": lambda f: learners.maml(chained(model=f, head=mlp(WAYS, hidden=())), WAYS, steps=1),
    "proto_maml": lambda f: learners.proto_maml(f, WAYS, steps=1),
    "anil": lambda f: learners.anil(f, WAYS, steps=1),
    "prototypical": lambda f: learners.prototypical(f, WAYS),
    "matching": lambda f: learners.matching(f, WAYS),
    "ridge": lambda f: learners.ridge(f, WAYS),
    "fine_tuning": lambda f: learners.fine_tuning(f, WAYS, trained="all", steps=1),
    "logistic_regression": lambda f: learners.logistic_regression(f, WAYS, steps=1),
}


def batch(count):
    return Batch(jnp.zeros((count, 16, 16, 3)), jnp.arange(count) % WAYS, jnp.ones(count))


CASES = [
    pytest.param(network, learner, marks=[] if network == "vit" else [pytest.mark.slow])
    for network in NETWORKS
    for learner in LEARNERS
    # A residual network takes long to trace: by gradient, by comparison and by fine-tuning.
    if network == "vit" or learner in ("maml", "prototypical", "fine_tuning")
]


@pytest.mark.parametrize(("network", "learner"), CASES)
def test_the_outer_gradient_of_several_tasks(network, learner):
    objective = episodic(LEARNERS[learner](NETWORKS[network]), cross_entropy)
    task = Episode(batch(4), batch(2))
    params, state = jax.eval_shape(objective.init, jax.random.key(0), task)

    def gradients(params, state, tasks, keys):
        def one(task, key):
            return jax.grad(lambda p: objective.loss(p, state, task, key)[0])(params)

        return jax.vmap(one)(tasks, keys)

    several = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), task)
    keys = jax.random.split(jax.random.key(1), 3)
    found = jax.eval_shape(gradients, params, state, several, keys)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    shapes = jax.tree.map(lambda leaf, own: leaf.shape == (3, *own.shape), found, params)
    assert all(jax.tree.leaves(shapes))
