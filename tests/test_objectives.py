"""Every contract over every objective of the library, and over the sketches of others."""

import math
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import domains, learners, multitask, pretraining
from jaxmeta.data import (
    array_source,
    beside,
    beside_harmful,
    domain_shift,
    held_out_task,
    looked_up,
    quadratics,
    task_source,
    unchanged,
)
from jaxmeta.distributed.parallel import by_shard_map, replicate
from jaxmeta.inner import coordinatewise_lstm
from jaxmeta.losses import accuracy, cross_entropy, sum_of_squares
from jaxmeta.nn import linear, mlp, projector, text_transformer, vit
from jaxmeta.objectives import (
    added,
    along,
    augmented,
    blocked,
    booster,
    episodic,
    evolution_strategies,
    multi_step,
    on_part,
    reptile,
    trajectories,
    two_views,
)
from jaxmeta.train import init_train_state, outer_loop
from tests.objective_contracts import (
    LARGE,
    SKETCHES,
    Case,
    keeps_its_promises,
    normalized_mlp,
    same,
    sketch,
    trained,
)
from tests.quick import QUICK

CLASSIFIER, EMBEDDING, HEAD = normalized_mlp(3), normalized_mlp(6), projector(5, hidden=[7])
MAML = learners.maml(CLASSIFIER, 3, steps=2, learning_rate=0.1)
RANDOM, Y = np.random.default_rng(0), np.arange(60) % 6
X = 2 * RANDOM.normal(size=(6, 5))[Y] + RANDOM.normal(size=(60, 5))
SOURCE = array_source(X, Y)
IMAGES = array_source(RANDOM.normal(size=(24, 3, 3, 1)) + np.arange(3.0)[:, None, None], Y[:24] % 3)
# Rows or columns, as any patch shows.
STRIPES = np.stack([np.indices((4, 4))[i % 2, ..., None] % 2 + i % 2 for i in range(24)])
STRIPED = array_source(STRIPES.astype(np.float32), Y[:24] % 3)
# Texts of one word over and over.
WORDS = array_source({"tokens": np.repeat(Y[:, None] + 2, 6, axis=1)}, Y)
TEXTS = looked_up(WORDS, {"words": RANDOM.normal(size=(8, 4))})
SHIFTED = array_source(X + 1, Y)
DOMAINS = domain_shift(
    *(dict.fromkeys(("train", "valid", "test"), each) for each in (SOURCE, SHIFTED))
)
LINEAR, CRITIC = mlp(6, hidden=()), mlp(2, hidden=(4,))
TASKS = task_source(X[np.argsort(Y, kind="stable")], [[10, 10]] * 3, ["ant", "bee", "cat"])
SHARED = multitask.hard_sharing(EMBEDDING, LINEAR, tasks=3)
STRETCHES = trajectories(
    linear(1), coordinatewise_lstm((3,), log_range=None), sum_of_squares, stretch=2, horizon=6
)
DESIRED = episodic(
    learners.fixed_classifier(EMBEDDING, LINEAR, normalization="transductive"), cross_entropy
)
HARMFUL = beside_harmful(SOURCE, SHIFTED, ways=3, shots=2, queries=2)
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
    **{
        name: Case(objective, quadratics(size=3)["train"].episodes(1, 4, 4), ())
        for name, objective in {
            "trajectories": STRETCHES,
            "evolution_strategies": evolution_strategies(STRETCHES, sigma=0.1),
        }.items()
    },
    "augmented": of_episodes(
        augmented(episodic(learners.prototypical(EMBEDDING, 3), cross_entropy), noisy)
    ),
    "protoclr": Case(
        augmented(
            episodic(learners.prototypical(EMBEDDING, 3), cross_entropy), noisy, support=unchanged
        ),
        SOURCE.instances(3, 1, 2),
        SOURCE.data,
    ),
    "supervised": Case(pretraining.supervised(EMBEDDING, SOURCE.classes), BATCHES, SOURCE.data),
    **{
        name: Case(two_views(objective, noisy), BATCHES, SOURCE.data)
        for name, objective in {
            "simclr": pretraining.simclr(EMBEDDING, HEAD),
            "supcon": pretraining.supcon(EMBEDDING, HEAD),
            "barlow_twins": pretraining.barlow_twins(EMBEDDING, HEAD),
            "vicreg": pretraining.vicreg(EMBEDDING, HEAD),
            "simsiam": pretraining.simsiam(EMBEDDING, HEAD, HEAD),
            "byol": pretraining.byol(EMBEDDING, HEAD, HEAD, momentum=0.9),
            "moco_v2": pretraining.moco_v2(EMBEDDING, HEAD, queue=16, momentum=0.9),
            "moco_v3": pretraining.moco_v3(EMBEDDING, HEAD, HEAD, momentum=0.9),
            "dino": pretraining.dino(EMBEDDING, HEAD, prototypes=6, momentum=0.9),
        }.items()
    },
    "rotation": Case(pretraining.rotation(EMBEDDING), IMAGES.batches(8), IMAGES.data),
    "mae": Case(
        pretraining.mae(
            vit(patch=2, width=8, depth=1, heads=2),
            mask_share=0.5,
            decoder_width=8,
            decoder_depth=1,
            decoder_heads=1,
        ),
        STRIPED.batches(8),
        STRIPED.data,
    ),
    "masked_words": Case(
        pretraining.masked_words(text_transformer(depth=1, heads=2, size=8), vocabulary=8),
        TEXTS.batches(8),
        TEXTS.data,
    ),
    "added": Case(
        added(
            {
                "rotation": pretraining.rotation(EMBEDDING),
                "moco": two_views(pretraining.moco_v2(EMBEDDING, HEAD, queue=16), noisy),
            },
            weights={"rotation": 0.5},
        ),
        IMAGES.batches(8),
        IMAGES.data,
    ),
    **{
        name: Case(objective, DOMAINS["train"].batches(8), DOMAINS["train"].data)
        for name, objective in {
            "source_only": domains.source_only(EMBEDDING, LINEAR),
            "mmd": domains.mmd(EMBEDDING, LINEAR),
            "coral": domains.coral(EMBEDDING, LINEAR, statistics="apart"),
            "dann": domains.dann(EMBEDDING, CRITIC, LINEAR, steps=80),
            "adda": domains.adda(EMBEDDING, CRITIC, LINEAR, pretraining=0),
            "cdan": domains.cdan(EMBEDDING, CRITIC, LINEAR, steps=80, how="swap"),
        }.items()
    },
    "on_part": Case(
        added(
            {
                "few_shot": on_part(
                    episodic(learners.prototypical(EMBEDDING, 3), cross_entropy), "episode"
                ),
                "domain": on_part(domains.dann(EMBEDDING, CRITIC, how="swap"), "batch"),
            }
        ),
        beside(DOMAINS["train"].episodes(3, 2, 2), DOMAINS["train"], size=6),
        DOMAINS["train"].data,
    ),
    **{
        name: Case(objective, HARMFUL.batches(8), HARMFUL.data)
        for name, objective in {
            "blocked": blocked(DESIRED, [learners.adversary(EMBEDDING, 3, steps=2)]),
            "booster": booster(DESIRED, learners.prototypical(EMBEDDING, 3)),
        }.items()
    },
    **{
        name: Case(objective, TASKS.batches(8), TASKS.data)
        for name, objective in {
            "multitask": multitask.by_uncertainty(
                multitask.multitask(SHARED, metrics={"accuracy": accuracy}), tasks=3
            ),
            "adversarial_sharing": multitask.adversarial_sharing(
                EMBEDDING, EMBEDDING, LINEAR, mlp(3, hidden=()), tasks=3
            ),
        }.items()
    },
    "mldg": Case(
        domains.mldg(multitask.one_network(CLASSIFIER), metrics={"accuracy": accuracy}),
        held_out_task(TASKS.batches(4)),
        TASKS.data,
    ),
    **{name: sketch(name) for name in SKETCHES},
}


SLOW = (
    "adversarial_sharing",
    "on_part",
    "mldg",
    "protoclr",
    "source_only",
    "mmd",
    "coral",
    "cdan",
    "adda",
    "added",
    "along",
    "multi_step",
    "booster",
    "simclr",
    "supcon",
    "barlow_twins",
    "vicreg",
    "simsiam",
    "moco_v2",
    "moco_v3",
    "dino",
    "rotation",
    "mae",
    "masked_words",
)  # one of their kind is enough


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in CASES]
)
def test_contracts(name, tmp_path):
    keeps_its_promises(CASES[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 8])
def test_a_teacher_takes_less_than_a_copy_of_its_own_and_is_never_reduced(count):
    parts = mlp(64, (512,)), mlp(64, (64,)), mlp(64, (64,))
    taught = two_views(pretraining.byol(*parts), noisy)
    alone = two_views(pretraining.simsiam(*parts), noisy)  # the targets are the network's own
    devices, optimizer = jax.devices()[:count], optax.sgd(0.1)
    sample = SOURCE.batches(2)  # more parameters than activations
    task = sample(SOURCE.data, jax.random.key(0))

    def compiled(objective):
        update = outer_loop(objective, optimizer, sample, 8, spread=by_shard_map(devices))
        begun = init_train_state(optimizer, *objective.init(jax.random.key(1), task))
        given = replicate((begun, SOURCE.data), devices)
        program = update.lower(*given, jax.random.key(2), 1).compile()
        reduced = re.findall(r"= (.*) all-reduce\(", program.as_text())
        shapes = [shape.split(",") for shape in re.findall(r"f32\[([\d,]*)\]", str(reduced))]
        numbers = sum(math.prod(int(n) for n in shape if n) for shape in shapes)
        size = sum(leaf.size for leaf in jax.tree.leaves(begun.params))
        return program.memory_analysis().temp_size_in_bytes / size / 4, numbers / size

    (memory, reduced), (least, _) = compiled(taught), compiled(alone)
    assert memory - least < 1
    assert reduced == pytest.approx(1 if count > 1 else 0, abs=0.01)


@pytest.mark.slow
def test_two_processes_train_every_sketch_as_one_does(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.two_processes", coordinator, process, tmp_path],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count=4"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in "01"
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
    for name in SKETCHES:
        with np.load(tmp_path / f"{name}.npz") as together:
            train_state, metrics = trained(sketch(name), steps=5)
            same(jax.tree.leaves((train_state, metrics)), list(together.values()))
            assert train_state.state["count"] == LARGE + 5
