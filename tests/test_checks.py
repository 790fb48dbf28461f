"""Counts that are none are told where they are given."""

import inspect

import jax
import numpy as np
import optax
import pytest

from jaxmeta import data, learners, nn
from jaxmeta.checks import check_count
from jaxmeta.evaluate import evaluator
from jaxmeta.inner import implicit, learning_rates, minimize, per_step, sgd, unroll
from jaxmeta.losses import cross_entropy
from jaxmeta.objectives import multi_step
from jaxmeta.pretraining import supervised

MODEL = nn.mlp(3)
MAMLPP = learners.maml_plus_plus(MODEL, 3)
OF_WAYS = [
    make
    for make in (getattr(learners, name) for name in learners.__all__)
    if list(inspect.signature(make).parameters)[1:2] == ["ways"]
]


@pytest.mark.parametrize("ways", [0, -1, 2.5, "five"])
@pytest.mark.parametrize("make", OF_WAYS, ids=lambda make: make.__name__)
def test_a_learner_tells_ways_apart(make, ways):
    with pytest.raises(ValueError, match=f"ways is {ways!r}: give a whole number, 1 or more"):
        make(MODEL, ways)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: unroll(sgd(0.1), 2.5), "steps is 2.5: give a whole number, 0 or more"),
        (lambda: unroll(sgd(0.1), -1), "steps is -1"),
        (lambda: minimize(2.5), "steps is 2.5"),
        (lambda: implicit(optax.sgd(0.1), 2.5, 1.0), "steps is 2.5"),
        (lambda: implicit(optax.sgd(0.1), 2, 1.0, solver_steps=1.5), "solver_steps is 1.5"),
        (lambda: per_step(learning_rates(0.1), 0), "steps is 0: give a whole number, 1 or more"),
        (lambda: learners.maml_plus_plus(MODEL, 3, steps=1.5), "steps is 1.5"),
        (lambda: learners.maml_plus_plus(MODEL, 3, steps=-1), "steps is -1"),
        (lambda: multi_step(MAMLPP, cross_entropy, annealing_steps=-1), "annealing_steps is -1"),
        (
            lambda: multi_step(MAMLPP, cross_entropy, annealing_steps=0, early_steps=0.5),
            "early_steps is 0.5",
        ),
        (lambda: learners.reptile(MODEL, 3, batch=1.5), "batch is 1.5"),
        (lambda: learners.matching(MODEL, 3, reads=0), "reads is 0"),
        (lambda: supervised(MODEL, 2.5), "classes is 2.5"),
        (lambda: evaluator(None, None, None, 2.5), "episodes is 2.5: give a whole number, 2 or"),
        (lambda: evaluator(None, None, None, 1), "episodes is 1"),
        (lambda: nn.mlp(0), "A layer's size is 0: give a whole number, 1 or more"),
        (lambda: nn.mlp(3, hidden=(8, 2.5)), "A layer's size is 2.5"),
        (lambda: nn.conv4(filters=2.5), "filters is 2.5"),
        (lambda: nn.conv4(filters=[8, 8, 8, 0]), "filters is 0"),
        (lambda: nn.conv4(outputs=-1), "outputs is -1"),
        (lambda: nn.conv4(halvings=1.5), "halvings is 1.5"),
        (lambda: data.glyphs(size=8.5), "size is 8.5: give a whole number, 1 or more"),
        (lambda: data.omniglot(size=0), "size is 0"),
        (lambda: data.cifar_fs(size=8.5), "size is 8.5"),
        (lambda: data.folder("somewhere", size=-1), "size is -1"),
        (lambda: data.glyphs(classes=(5, 0, 5)), "classes is 0"),
        (lambda: data.glyphs(classes=5), "classes is 5: give those of the train, valid and test"),
        (lambda: nn.relation_module(hidden=0), "hidden is 0"),
    ],
)
def test_a_count_that_is_none(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_numbers_of_numpy_count_and_traced_ones_do_not():
    check_count("steps", np.int64(3))
    check_count("steps", 0)
    with pytest.raises(ValueError, match=r"steps is .*: give a whole number"):
        jax.jit(lambda steps: check_count("steps", steps))(3)
