"""A self-destructing model: useful, and no use for harm even after an adversary has tuned it.
Henderson et al., 2023, Self-Destructing Models, section 4."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta.data import array_source, paired
from jaxmeta.inner import unroll
from jaxmeta.learners import gradient_learner
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import mlp
from jaxmeta.objectives import along
from jaxmeta.types import Episode, Objective


def self_destructing(model, adversary, chance):
    def harmless(outputs, y, mask):
        return jax.nn.relu(chance - cross_entropy(outputs, y, mask))

    resist = along(adversary, harmless, lambda state, steps: jnp.full(steps + 1, 1 / (steps + 1)))

    def loss(params, state, batches, key):
        useful, harmful = batches
        harm, report = resist.loss(params, state, harmful, key)
        logits, _ = model.apply(params["model"], state, useful.x, useful.mask)
        return cross_entropy(logits, useful.y, useful.mask) + harm, report

    return Objective(lambda key, batches: resist.init(key, batches[1]), loss, resist.update)


model, x = mlp(3, (8,)), np.random.default_rng(0).normal(size=(30, 5))
useful, harmful = (array_source(x, x[:, i : i + 3].argmax(axis=1)) for i in (0, 2))
adversary = gradient_learner(model, unroll(optax.sgd(0.1), steps=2), ways=3)
objective = self_destructing(model, adversary, chance=1.1)
sample = paired((useful.batches(8), Episode(harmful.batches(8), harmful.batches(8))))
data = useful.data, Episode(harmful.data, harmful.data)
