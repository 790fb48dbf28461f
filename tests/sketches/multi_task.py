"""Multi-task learning: one trunk for several data sets, and a head for the classes of each.
Caruana, 1997, Multitask Learning."""

import jax
import numpy as np

from jaxmeta.data import array_source, mixture
from jaxmeta.losses import cross_entropy
from jaxmeta.nn import mlp
from jaxmeta.types import Objective, Report


def multi_task(trunk, heads):
    def init(key, drawn):
        *keys, key = jax.random.split(key, len(heads) + 1)
        params, _ = trunk.init(key, drawn.task.x)
        x, _ = trunk.apply(params, {}, drawn.task.x)
        return (params, [head.init(key, x)[0] for head, key in zip(heads, keys, strict=True)]), ()

    def loss(params, state, drawn, key):
        source, batch = drawn
        x, _ = trunk.apply(params[0], {}, batch.x)

        def judge(head, own):
            return lambda: cross_entropy(head.apply(own, {}, x)[0], batch.y, batch.mask)

        return jax.lax.switch(source, list(map(judge, heads, params[1]))), Report()

    return Objective(init, loss)


x = np.random.default_rng(0).normal(size=(30, 5))
sources = [array_source(x, x[:, :classes].argmax(axis=1)) for classes in (2, 5)]
objective = multi_task(mlp(6, (8,)), [mlp(source.classes, ()) for source in sources])
sample = mixture([source.batches(8) for source in sources])
data = tuple(source.data for source in sources)
