"""BYOL: a network predicts what its own moving average, the teacher, makes of another view.
Grill et al., 2020, Bootstrap Your Own Latent, equations 1 and 2."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxmeta.data import array_source, crop_and_mirror, views
from jaxmeta.nn import mlp
from jaxmeta.types import Objective, Report


def byol(encoder, predictor, decay):
    def init(key, batch):
        online_key, predictor_key = jax.random.split(key)
        online, _ = encoder.init(online_key, batch.x[0])
        z, _ = encoder.apply(online, {}, batch.x[0])
        return {"online": online, "predictor": predictor.init(predictor_key, z)[0]}, online

    def loss(params, teacher, batch, key):
        def distance(one, other):
            z, _ = encoder.apply(params["online"], {}, one)
            predicted, _ = predictor.apply(params["predictor"], {}, z)
            target, _ = encoder.apply(teacher, {}, other)
            return 2 - 2 * jnp.mean(optax.cosine_similarity(predicted, target, epsilon=1e-6))

        return distance(*batch.x) + distance(*batch.x[::-1]), Report()

    def update(teacher, params, statistics):
        return optax.incremental_update(params["online"], teacher, 1 - decay)

    return Objective(init, loss, update)


images = array_source(np.random.default_rng(0).random((32, 4, 4, 1)), np.zeros(32, int))
objective, data = byol(mlp(6, (8,)), mlp(6, (8,)), decay=0.9), images.data
sample = views(images.batches(8), crop_and_mirror(1))
