"""Every contract over every learner."""

import contracts
import jax
import numpy as np
import optax
import pytest
from contracts import WAYS, Case, sample, small, task

from jaxmeta.evaluate import evaluator
from jaxmeta.inner import unroll
from jaxmeta.learners import from_scratch, gradient_learner, maml, prototypical
from jaxmeta.losses import accuracy
from jaxmeta.train import start

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
    "rematerialised_momentum": Case(
        gradient_learner(
            CLASSIFIER,
            unroll(optax.sgd(0.1, momentum=0.9), 2, differentiation="rematerialised"),
            WAYS,
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


def test_averages_of_transductive_training_serve_running_evaluation():
    trained = Case(prototypical(EMBEDDING, WAYS))
    running = prototypical(EMBEDDING, WAYS, normalisation="running")
    train_state = start(contracts.OPTIMISER, *trained.learner.init(jax.random.key(1), task()))
    untrained = jax.tree.map(np.asarray, train_state.state)
    train_state, _ = contracts.updater(trained)(train_state, (), contracts.KEY, 20)
    judge = evaluator(running, accuracy, sample, 50)
    kept, forgotten = (
        np.mean(judge(train_state.params, state, (), jax.random.key(3)))
        for state in (train_state.state, untrained)
    )
    assert kept > 0.9
    assert np.abs(train_state.state.mean - untrained.mean).max() > 0.01
    assert kept >= forgotten
