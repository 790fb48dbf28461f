"""The streams of a run have nothing in common, and no key is both split and folded."""

import ast
import collections
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxmeta
from jaxmeta.data import sinusoid
from jaxmeta.evaluate import evaluator
from jaxmeta.keys import streams, task_keys
from jaxmeta.train import init_train_state, outer_loop
from jaxmeta.types import Learner, Objective, Report

STEPS, TASKS = 20, 5


def numbers(keys):
    """The keys as a set of tuples."""
    return set(map(tuple, np.asarray(jax.random.key_data(keys)).reshape(-1, 2).tolist()))


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1), (1, 0)])
def test_streams_of_a_run_all_differ(seeds):
    assert len(numbers(jnp.stack(streams(*seeds)))) == 6


@jax.jit
def keys_of_steps(key):
    return jax.vmap(lambda step: task_keys(key, step, TASKS))(jnp.arange(STEPS))


@jax.jit
def keys_of_episodes(key):
    """Those that the evaluation folds, and those that it splits them into."""
    folded = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(STEPS))
    return folded, jax.vmap(jax.random.split)(folded)


def test_keys_of_steps_all_differ_and_never_meet_those_of_an_evaluation():
    own = streams(seed=0, evaluation_seed=0)
    trained = jax.tree.map(numbers, tuple(keys_of_steps(own.train)))
    assert [len(part) for part in trained] == [STEPS * TASKS, STEPS * TASKS, STEPS]
    drawn = set().union(*trained)
    assert len(drawn) == sum(map(len, trained))
    for evaluated in (own.valid, own.test, own.train_episodes):
        episodes = set().union(*map(numbers, keys_of_episodes(evaluated)))
        assert len(episodes) == 3 * STEPS
        assert not drawn & episodes


def test_no_validation_episode_is_a_training_task_with_both_seeds_0():
    source, own = sinusoid()["train"], streams(seed=0, evaluation_seed=0)
    sample = source.episodes(ways=1, shots=1, queries=1)
    seen = Objective(
        init=lambda key, episode: ((), ()),
        loss=lambda params, state, episode, key: (
            jnp.zeros(()),
            Report(metrics={"y": episode.query.y[0, 0]}),
        ),
    )
    optimizer = optax.sgd(0.1)
    update = outer_loop(seen, optimizer, sample, meta_batch=1)
    _, trained = update(init_train_state(optimizer, (), ()), (), own.train, STEPS)
    blind = Learner(
        lambda key, episode: ((), ()), lambda *_: ((), {}), lambda p, state, a, x, *_: (x, state)
    )
    y = {"y": lambda outputs, y, mask: y[0, 0]}
    validated = evaluator(blind, y, sample, STEPS)((), (), (), own.valid)
    assert len(np.unique(trained["y"])) == STEPS
    assert not np.isin(validated["y"], trained["y"]).any()


class Consumers(ast.NodeVisitor):
    """Who consumes each key: ``{(function whose argument it is, name): {"split", "fold_in"}}``."""

    def __init__(self):
        self.scopes, self.found = [], collections.defaultdict(set)

    def visit_FunctionDef(self, node):
        self.scopes.append(
            (node, {each.arg for each in ast.walk(node.args) if "arg" in each._fields})
        )
        self.generic_visit(node)
        self.scopes.pop()

    def visit_Call(self, node):
        target = node.func
        if isinstance(target, ast.Call) and target.args:  # vmap(split)(key)
            target = target.args[0]
        consumer = ast.unparse(target).rpartition("random.")[2]
        if consumer in ("split", "fold_in") and node.args:
            name = ast.unparse(node.args[0])
            owners = [function for function, names in self.scopes if name in names]
            owner = (owners or [function for function, _ in self.scopes[:1]])[-1:]
            self.found[*owner, name].add(consumer)
        self.generic_visit(node)


def both_ways(text):
    consumers = Consumers()
    consumers.visit(ast.parse(text))
    return [key[-1] for key, used in consumers.found.items() if len(used) > 1]


def test_a_key_is_split_or_folded_and_never_both():
    twice = "def f(key):\n    jax.random.split(key)\n    vmap(jax.random.fold_in)(key, steps)"
    assert both_ways(twice) == ["key"]
    assert both_ways(twice.replace("split(key)", "split(other)")) == []
    files = list(Path(jaxmeta.__file__).parent.rglob("*.py"))
    assert len(files) > 50
    assert {str(path): names for path in files if (names := both_ways(path.read_text()))} == {}
