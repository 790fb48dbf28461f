"""None of the above: one more output, which training moves to where it belongs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta.data import array_source, make_batch
from jaxmeta.evaluate import evaluator
from jaxmeta.learners import maml, prototypical, rejecting
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn import mlp
from jaxmeta.objectives import episodic
from jaxmeta.runs import restore, run
from jaxmeta.runs.config import complete, learner_spec
from jaxmeta.runs.tasks import episode_sampler
from jaxmeta.train import init_train_state, outer_loop

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
Y = np.repeat(np.arange(12), 20)
SOURCE = array_source(4 * RANDOM.normal(size=(12, 6))[Y] + RANDOM.normal(size=(240, 6)), Y)
SAMPLE = SOURCE.episodes(3, 2, 4, outside=12)


@pytest.mark.parametrize("make", [prototypical, lambda model, ways: maml(mlp(ways, ()), ways)])
def test_the_other_outputs_are_unchanged_and_the_last_is_an_affine_mean(make):
    plain = make(mlp(8), 3)
    learner = rejecting(plain)
    episode = SAMPLE(SOURCE.data, KEY)
    params, state = learner.init(KEY, episode)
    params["none"] = {"scale": jnp.float32(0.5), "offset": jnp.float32(-2)}
    support = make_batch(episode.support.x[:4], [0, 0, 1, 1], ways=3)  # the third is absent
    adapted, _ = learner.adapt(params, state, support, KEY)
    logits, _ = learner.predict(params, state, adapted, episode.query.x)
    own, _ = plain.adapt(params["learner"], state, support, KEY)
    known, _ = plain.predict(params["learner"], state, own, episode.query.x)
    np.testing.assert_allclose(logits[:, :3], known, rtol=1e-6)
    np.testing.assert_allclose(logits[:, 3], 0.5 * known[:, :2].mean(axis=1) - 2, rtol=1e-5)
    assert np.isfinite(logits[:, 3]).all()


def test_training_learns_when_to_reject():
    learner = rejecting(prototypical(mlp(8), 3))
    update = outer_loop(
        episodic(learner, cross_entropy), optimizer := optax.adam(0.01), SAMPLE, meta_batch=8
    )
    begun = init_train_state(optimizer, *learner.init(KEY, SAMPLE(SOURCE.data, KEY)))
    run = evaluator(learner, {"accuracy": accuracy}, SAMPLE, episodes=100)

    def score(train_state):
        return run(train_state.params, train_state.state, SOURCE.data, KEY)["accuracy"].mean()

    before = score(begun)
    trained, _ = update(begun, SOURCE.data, KEY, 150)
    # Half of the queries are from outside: who rejects none has at most a half.
    assert before < 0.6
    assert score(trained) > 0.8


def test_a_run_may_be_evaluated_with_other_ways(tmp_path):
    loss = {"function": "jaxmeta.losses.cross_entropy"}
    plain = {"make": "jaxmeta.learners.prototypical", "ways": 4}
    config = {
        "data": {"make": "jaxmeta.data.glyphs", "classes": [20, 20, 20]},
        "model": {"make": "jaxmeta.nn.mlp", "outputs": 8, "hidden": []},
        "learner": {"make": "jaxmeta.learners.rejecting", "learner": plain},
        "loss": loss,
        "metrics": {"accuracy": {"function": "jaxmeta.losses.accuracy"}},
        "ways": 4,
        "shots": 1,
        "queries": 2,
        "steps": 2,
        "meta_batch": 2,
        "log_every": 2,
        "sample": {"outside": 4},
        "evaluation": {"every": 2, "validation_episodes": 2, "episodes": 2},
        "evaluations": {"trained": {"outside": 4}},
    }
    result = run(config, tmp_path / "run", writers=[])
    assert result["evaluations"]["trained"]["outside"] == 4
    fewer, more = (restore(tmp_path / "run", ways=ways).learner for ways in (3, 6))
    x, y = np.ones((6, 28, 28, 1), np.uint8), np.arange(6)
    for learner, outputs in ((fewer, 5), (more, 7)):
        support = make_batch(x[: outputs - 1], y[: outputs - 1], ways=outputs - 1)
        _, params, state = restore(tmp_path / "run")
        adapted, _ = learner.adapt(params, state, support, KEY)
        assert learner.predict(params, state, adapted, support.x)[0].shape[1] == outputs
    # Fewer ways are padded to those of the learner, so none keeps its label.
    spec = learner_spec(complete(config))
    source = SOURCE
    sample = episode_sampler(
        source, "test", {"ways": 3, "shots": 1, "queries": 2, "outside": 4}, spec
    )
    assert sample(source.data, KEY).query.y[-4:].tolist() == [4] * 4


def test_a_path_is_that_of_the_learner_within():
    learner = rejecting(maml(mlp(3, ()), 3, steps=2))
    episode = SAMPLE(SOURCE.data, KEY)
    params, state = learner.init(KEY, episode)
    rows, _ = learner.path(params, state, episode.support, KEY)
    assert {len(leaf) for leaf in jax.tree.leaves(rows)} == {3}
    assert rejecting(prototypical(mlp(8), 3)).path is None
