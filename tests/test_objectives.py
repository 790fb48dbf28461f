"""Every contract over every objective of the library, and over the sketches of others."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from objective_contracts import (
    SKETCHES,
    Case,
    keeps_its_promises,
    normalized_mlp,
    sketch,
)

from jaxmeta import learners
from jaxmeta.data import array_source
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.objectives import along, augmented, episodic, multi_step, reptile
from jaxmeta.pretraining import supervised

CLASSIFIER, EMBEDDING = normalized_mlp(3), normalized_mlp(6)
MAML = learners.maml(CLASSIFIER, 3, steps=2, learning_rate=0.1)
RANDOM, Y = np.random.default_rng(0), np.arange(60) % 6
X = 2 * RANDOM.normal(size=(6, 5))[Y] + RANDOM.normal(size=(60, 5))
SOURCE = array_source(X, Y)
EPISODES, BATCHES = SOURCE.episodes(ways=3, shots=2, queries=2), SOURCE.batches(8)


def even(state, steps):
    return jnp.full(steps + 1, 1 / (steps + 1))


def noisy(key, x):
    return x + jax.random.normal(key, x.shape) / 10


def of_episodes(objective, **given):
    return Case(objective, EPISODES, SOURCE.data, **given)


CASES = {
    "episodic": of_episodes(episodic(MAML, cross_entropy, {"accuracy": accuracy})),
    "reptile": of_episodes(
        reptile(
            learners.reptile(CLASSIFIER, 3, steps=3, learning_rate=0.5, batch=4), cross_entropy
        ),
        optimizer=optax.sgd(1.0),
    ),
    "multi_step": of_episodes(
        multi_step(
            learners.maml_plus_plus(CLASSIFIER, 3, steps=2), cross_entropy, annealing_steps=20
        )
    ),
    "along": of_episodes(along(MAML, cross_entropy, even)),
    "augmented": of_episodes(
        augmented(episodic(learners.prototypical(EMBEDDING, 3), cross_entropy), noisy)
    ),
    "supervised": Case(supervised(EMBEDDING, SOURCE.classes), BATCHES, SOURCE.data),
    **{name: sketch(name) for name in SKETCHES},
}


@pytest.mark.parametrize("name", CASES)
def test_contracts(name, tmp_path):
    keeps_its_promises(CASES[name], tmp_path)
