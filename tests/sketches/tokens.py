"""Few-shot text classification: prototypical networks of mean word vectors, padding left out.
Snell et al., 2017, Prototypical Networks for Few-shot Learning, equations 1 and 2."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxmeta.data import class_source
from jaxmeta.learners import prototypical
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn import from_functions
from jaxmeta.objectives import episodic


def mean_of_tokens(vocabulary, width):
    def init(key, x):
        return {"vectors": jax.random.normal(key, (vocabulary, width))}

    def apply(params, x):
        places = jnp.arange(x["tokens"].shape[-1])
        kept = (places[None] < x["length"][:, None]).astype(jnp.float32)
        total = jnp.einsum("nt,ntd->nd", kept, params["vectors"][x["tokens"]])
        return total / jnp.maximum(jnp.sum(kept, axis=1, keepdims=True), 1)

    return from_functions(init, apply)


random = np.random.default_rng(0)
lengths = random.integers(2, 7, 40)
topics = np.repeat(np.arange(4), 10)[:, None]  # a word in three is of the topic
words = np.where(random.random((40, 6)) < 1 / 3, topics, random.integers(4, 20, (40, 6)))
padded = np.where(np.arange(6) < lengths[:, None], words, random.integers(0, 4, (40, 6)))
source = class_source({"tokens": padded, "length": lengths}, [10] * 4, names=list("abcd"))
learner = prototypical(mean_of_tokens(20, 4), ways=3)
objective = episodic(learner, cross_entropy, {"accuracy": accuracy})
sample, data = source.episodes(ways=3, shots=2, queries=3), source.data
