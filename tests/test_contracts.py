"""Every contract over every learner."""

import functools

import jax
import numpy as np
import optax
import pytest

from jaxmeta.evaluate import evaluator
from jaxmeta.learners import (
    adversary,
    alfa,
    anil,
    calibrated,
    chosen,
    class_statistics,
    embedded,
    fine_tuning,
    from_scratch,
    hallucinated,
    imaml,
    logistic_regression,
    lstm_meta_learner,
    maml,
    maml_plus_plus,
    matching,
    meta_sgd,
    nearest_mean,
    proto_maml,
    prototype_matching,
    prototypical,
    relation,
    reptile,
    ridge,
    siamese,
)
from jaxmeta.losses import accuracy, cross_entropy, pair_verification, relation_error
from jaxmeta.nn import identity, mlp, residual_mlp
from jaxmeta.objectives import episodic, multi_step
from jaxmeta.objectives import reptile as reptile_objective
from jaxmeta.train import init_train_state, outer_loop
from tests import contracts
from tests.contracts import TASKS, WAYS, Case, sample, small, small_relation, task

CLASSIFIER, EMBEDDING = small(WAYS), small(8)
FASTER = optax.adam(3e-2)
BASE = class_statistics(np.random.default_rng(0).normal(size=(40, 8)), np.arange(40) % 4)


def maml_case(**arguments):
    return Case(maml(CLASSIFIER, WAYS, steps=2, learning_rate=0.1, **arguments))


CASES = {
    "maml": maml_case(),
    "maml_inductive": maml_case(normalization="inductive"),
    "maml_running": maml_case(normalization="running"),
    "first_order_maml": maml_case(first_order=True),
    "meta_sgd": Case(meta_sgd(CLASSIFIER, WAYS, steps=2, learning_rate=0.1)),
    "alfa": Case(alfa(CLASSIFIER, WAYS, steps=2, learning_rate=0.1)),
    "lstm_meta_learner": Case(
        lstm_meta_learner(CLASSIFIER, WAYS, steps=2, hidden=3), optimizer=FASTER
    ),
    "anil": Case(anil(EMBEDDING, WAYS, steps=2)),
    "proto_maml": Case(proto_maml(EMBEDDING, WAYS, steps=2), equivariant=True),
    "imaml": Case(imaml(CLASSIFIER, WAYS, steps=3, learning_rate=0.1, solver_steps=2)),
    "reptile": Case(
        reptile(CLASSIFIER, WAYS, steps=3, learning_rate=0.1, batch=None),
        objective=reptile_objective,
        optimizer=optax.sgd(1.0),
    ),
    "maml_plus_plus": Case(
        maml_plus_plus(CLASSIFIER, WAYS, steps=2),
        objective=functools.partial(multi_step, annealing_steps=20),
    ),
    "maml_plus_plus_running": Case(
        maml_plus_plus(CLASSIFIER, WAYS, steps=1, normalization="running"),
        objective=functools.partial(
            multi_step,
            annealing_steps=0,
            early=maml_plus_plus(
                CLASSIFIER, WAYS, steps=1, first_order=True, normalization="running"
            ),
            early_steps=10,
        ),
        optimizer=FASTER,
    ),
    "prototypical": Case(prototypical(EMBEDDING, WAYS), equivariant=True),
    "prototypical_inductive": Case(
        prototypical(EMBEDDING, WAYS, normalization="inductive"), equivariant=True
    ),
    "siamese": Case(siamese(EMBEDDING, WAYS), equivariant=True, loss=pair_verification),
    "siamese_cosine": Case(
        siamese(EMBEDDING, WAYS, similarity="cosine"),
        equivariant=True,
        loss=pair_verification,
        optimizer=FASTER,
    ),
    "matching": Case(matching(EMBEDDING, WAYS), equivariant=True, optimizer=FASTER),
    "matching_full_context": Case(
        matching(EMBEDDING, WAYS, full_context=True, reads=2),
        equivariant=True,
        ordered=True,
        optimizer=FASTER,
    ),
    "prototype_matching": Case(
        prototype_matching(EMBEDDING, WAYS, reads=2),
        equivariant=True,
        ordered=True,
        optimizer=FASTER,
    ),
    "hallucinated": Case(
        embedded(
            EMBEDDING,
            hallucinated(
                prototypical(identity(), WAYS), residual_mlp([8], codes=3), extra=2, noise=3
            ),
        ),
        equivariant=True,
    ),
    "hallucinated_inductive": Case(
        embedded(
            EMBEDDING,
            hallucinated(
                maml(mlp(WAYS, []), WAYS, steps=1),
                residual_mlp([8], codes=3),
                1,
                noise=3,
                codes="learned",
            ),
            normalization="inductive",
        ),
        optimizer=FASTER,
    ),
    "calibrated": Case(
        embedded(EMBEDDING, calibrated(ridge(identity(), WAYS), BASE, extra=3, spread=0.01)),
        equivariant=True,
        learns=False,
    ),
    "relation": Case(
        relation(small(None), WAYS, module=small_relation()), equivariant=True, loss=relation_error
    ),
    "relation_inductive": Case(
        relation(small(None), WAYS, module=small_relation(), normalization="inductive"),
        equivariant=True,
        loss=relation_error,
    ),
    "ridge": Case(ridge(EMBEDDING, WAYS), equivariant=True),
    "nearest_mean": Case(nearest_mean(EMBEDDING, WAYS), equivariant=True),
    "fine_tuning_cosine": Case(
        fine_tuning(EMBEDDING, WAYS, head="cosine", steps=2, normalization="running"),
        equivariant=True,
        learns=False,
    ),
    "fine_tuning_entropy": Case(
        fine_tuning(EMBEDDING, WAYS, steps=2, entropy=0.5, normalization="inductive"),
        equivariant=True,
        learns=False,
    ),
    "fine_tuning_whole": Case(
        fine_tuning(EMBEDDING, WAYS, steps=2, learning_rate=1e-3, trained="all", entropy=0.5),
        equivariant=True,
        learns=False,
    ),
    "adversary": Case(
        adversary(EMBEDDING, WAYS, steps=2, most_rate=0.1), equivariant=True, learns=False
    ),
    "chosen": Case(
        chosen(
            [nearest_mean(EMBEDDING, WAYS), logistic_regression(EMBEDDING, WAYS, steps=2)], WAYS
        ),
        equivariant=True,
        ordered=True,
        learns=False,
    ),
    "logistic_regression": Case(
        logistic_regression(EMBEDDING, WAYS, steps=4), equivariant=True, learns=False
    ),
    "from_scratch": Case(
        from_scratch(CLASSIFIER, WAYS, steps=3, learning_rate=1e-2),
        learns=False,
    ),
}
SLOW = (
    "maml_plus_plus_running",
    "prototypical_inductive",
    "siamese_cosine",
    "matching_full_context",
    "relation_inductive",
    "fine_tuning_entropy",
    "chosen",
    "prototype_matching",
    "hallucinated_inductive",
)  # near relatives of other rows
ROWS = [
    pytest.param(
        case, id=name, marks=[pytest.mark.xdist_group(name)] + [pytest.mark.slow] * (name in SLOW)
    )
    for name, case in CASES.items()
]


@pytest.mark.parametrize("contract", contracts.CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("case", ROWS)
def test_contract(case, contract):
    contract(case)


@pytest.mark.parametrize("name", ["maml", "proto_maml", "prototypical"])
def test_chunks_and_devices(name):
    contracts.chunks_and_devices_equal_all_at_once(CASES[name])


def test_averages_of_transductive_training_serve_running_evaluation():
    transductive = Case(prototypical(EMBEDDING, WAYS))
    running = prototypical(EMBEDDING, WAYS, normalization="running")
    params, untrained = transductive.learner.init(jax.random.key(1), task())
    objective = episodic(transductive.learner, cross_entropy)
    update = outer_loop(objective, transductive.optimizer, sample, TASKS)
    train_state = init_train_state(transductive.optimizer, params, untrained)
    train_state, _ = update(train_state, (), contracts.KEY, 20)
    evaluate = evaluator(running, {"accuracy": accuracy}, sample, 50)
    kept, forgotten = (
        np.mean(evaluate(train_state.params, state, (), jax.random.key(3))["accuracy"])
        for state in (train_state.state, untrained)
    )
    assert kept > 0.9
    assert np.abs(train_state.state.variance - untrained.variance).max() > 0.1
    assert kept >= forgotten
