"""Domain-adversarial training: features that tell classes apart, and do not tell domains apart.
Ganin et al., 2016, Domain-Adversarial Training of Neural Networks, sections 4.2 and 5.2.2."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.data import array_source, paired
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import mlp
from jaxmeta.types import Objective, Report

reverse = jax.custom_vjp(lambda x, strength: x)
reverse.defvjp(lambda x, strength: (x, strength), lambda strength, g: (-strength * g, None))


def domain_adversary(features, labels, domains, steps):
    def init(key, batches):
        *keys, key = jax.random.split(key, 3)
        params, _ = features.init(key, batches[0].x)
        x, _ = features.apply(params, {}, batches[0].x)
        return (params, labels.init(keys[0], x)[0], domains.init(keys[1], x)[0]), jnp.int32(0)

    def loss(params, step, batches, key):
        source, target = (features.apply(params[0], {}, batch.x)[0] for batch in batches)
        logits, _ = labels.apply(params[1], {}, source)
        both = reverse(jnp.concatenate([source, target]), jnp.tanh(5 * step / steps))
        domain, mask = jnp.repeat(jnp.arange(2), len(source)), jnp.ones(len(both))
        told = cross_entropy(domains.apply(params[2], {}, both)[0], domain, mask)
        return cross_entropy(logits, batches[0].y, batches[0].mask) + told, Report()

    return Objective(init, loss, lambda step, params, statistics: step + 1)


objective = domain_adversary(mlp(4, (8,)), mlp(3, ()), mlp(2, (4,)), steps=50)
x = np.random.default_rng(0).normal(size=(30, 5))
source, target = (array_source(shifted, x[:, :3].argmax(axis=1)) for shifted in (x, x + 0.5))
sample, data = paired((source.batches(8), target.batches(8))), (source.data, target.data)
