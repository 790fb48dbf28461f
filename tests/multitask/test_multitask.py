"""Multi-task networks: equalities with simpler networks, closed forms, and what must not leak."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import multitask
from jaxmeta.domains import reverse
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.nn import Statistics, chained, from_functions
from jaxmeta.types import Batch, Tasked
from tests.objective_contracts import normalized_mlp

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
TASKS, CLASSES, WIDTH = 3, 2, 4
X = jnp.asarray(RANDOM.normal(size=(6, 5)), jnp.float32)
Y, HERE = jnp.arange(6) % CLASSES, jnp.ones(6)


def linear(outputs):
    """A linear layer without a bias, in plain jax."""

    def init(key, x):
        return jax.random.normal(key, (x[0].size, outputs))

    return from_functions(init, lambda kernel, x: x.reshape(len(x), -1) @ kernel)


BODY, HEAD = normalized_mlp(WIDTH), linear(CLASSES)
STAGES = [normalized_mlp(WIDTH), normalized_mlp(WIDTH)]


def positions(outputs):
    """A linear layer of each position of maps, in plain jax."""

    def init(key, x):
        return jax.random.normal(key, (x.shape[-1], outputs))

    return from_functions(init, lambda kernel, x: jax.nn.relu(x @ kernel))


MODELS = {
    "hard_sharing": multitask.hard_sharing(BODY, HEAD, TASKS),
    "cross_stitch": multitask.cross_stitch(STAGES, HEAD, TASKS),
    "cgc": multitask.gated_experts([BODY], HEAD, TASKS),
    "ple": multitask.gated_experts(STAGES, HEAD, TASKS),
    "task_attention": multitask.task_attention(STAGES, HEAD, TASKS),
    "shared_private": multitask.shared_private(BODY, BODY, HEAD, TASKS),
    "hierarchical": multitask.hierarchical(STAGES, HEAD, depths=[1, 2, 2]),
    "separate": multitask.per_task(chained(body=BODY, head=HEAD), TASKS),
}


def of_task(task, x=X):
    return Tasked(x, jnp.full(len(x), task, jnp.int32))


def begin(model, task=0):
    return model.init(KEY, of_task(task))


def exactly(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("name", MODELS)
def test_a_task_changes_its_own_heads_and_statistics_and_those_of_no_other(name):
    model = MODELS[name]
    params, state = begin(model)

    @jax.jit
    def outcome(params):
        outputs, used = model.apply(params, state, of_task(1), HERE)
        return cross_entropy(outputs, Y, HERE), (outputs, used)

    gradient, (outputs, used) = jax.grad(outcome, has_aux=True)(params)
    assert outputs.shape == (6, CLASSES)
    assert optax.tree.norm(gradient) > 1e-3
    own = params if name == "separate" else {k: v for k, v in params.items() if "heads" in k}
    slopes = gradient if name == "separate" else {k: gradient[k] for k in own}
    for leaf in jax.tree.leaves(slopes):
        if leaf.shape[0] == TASKS:  # a hierarchical network has the heads of a depth together
            assert not np.any(leaf[np.array([0, 2])])
            assert np.any(leaf[1])
    changed = jax.tree.map(
        lambda new, old: np.any(new != old, axis=(1, *range(2, new.ndim))), used, state
    )
    for leaf in jax.tree.leaves(changed):
        assert not leaf[0]
        assert not leaf[2]
    assert any(leaf[1] for leaf in jax.tree.leaves(changed))


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_of_several_tasks_gives_nan_and_never_a_wrong_number(name):
    model = MODELS[name]
    params, state = begin(model)
    mixed = Tasked(X, jnp.array([1, 1, 1, 0, 1, 1]))
    outputs, _ = jax.jit(model.apply)(params, state, mixed)
    assert np.isnan(outputs[3]).all()
    for absent in (TASKS, -1):
        outputs, _ = jax.jit(model.apply)(params, state, of_task(absent))
        assert np.isnan(outputs).all()


@pytest.mark.parametrize("name", MODELS)
def test_averages_and_padding_are_those_of_the_task(name):
    model = MODELS[name]
    params, state = begin(model)
    apply = jax.jit(model.apply, static_argnums=5)
    outputs, used = apply(params, state, of_task(1), HERE, None, True)
    # What a batch is normalized by is what it leaves to later ones of its task.
    again, same = apply(params, used, of_task(1), HERE, None, False)
    np.testing.assert_allclose(again, outputs, atol=1e-5)
    exactly(same, used)
    padded = of_task(1, jnp.concatenate([X, 9 * jnp.ones((2, 5))]))
    mask = jnp.concatenate([HERE, jnp.zeros(2)])
    np.testing.assert_allclose(
        apply(params, state, padded, mask, None, True)[0][:6], outputs, atol=1e-5
    )


def test_one_task_is_a_network_with_a_head():
    model = multitask.hard_sharing(BODY, HEAD, tasks=1)
    params, state = begin(model)
    alone = {
        "body": params["encoder"],
        "head": jax.tree.map(lambda leaf: leaf[0], params["heads"]),
    }
    kept = {"body": jax.tree.map(lambda leaf: leaf[0], state["encoder"]), "head": ()}
    exactly(
        model.apply(params, state, of_task(0), HERE)[0],
        chained(body=BODY, head=HEAD).apply(alone, kept, X, HERE)[0],
    )


def test_columns_that_are_not_stitched_are_separate_networks():
    network = multitask.cross_stitch(STAGES, HEAD, TASKS, own=1.0)
    separate = multitask.per_task(chained(one=STAGES[0], two=STAGES[1], head=HEAD), TASKS)
    params, state = begin(network)
    encoder = params["encoder"]
    np.testing.assert_array_equal(encoder["stitch0"], np.eye(TASKS))
    theirs = {"one": encoder["columns0"], "two": encoder["columns1"], "head": params["heads"]}
    _, kept = begin(separate)
    for task in range(TASKS):
        exactly(
            network.apply(params, state, of_task(task), HERE)[0],
            separate.apply(theirs, kept, of_task(task), HERE)[0],
        )


def test_stitches_start_as_a_mixture_that_sums_to_one():
    stitch = begin(multitask.cross_stitch(STAGES, HEAD, TASKS, own=0.8))[0]["encoder"]["stitch1"]
    np.testing.assert_allclose(stitch, np.full((3, 3), 0.1) + 0.7 * np.eye(3), rtol=1e-6)


def test_renumbered_tasks_have_the_same_predictions():
    model = MODELS["cgc"]
    params, state = begin(model)
    order = jnp.array([2, 0, 1])  # task t is now called order[t]
    back = jnp.argsort(order)

    def renumbered(path, leaf):
        names = jax.tree_util.keystr(path)
        shared = "shared0" in names and "state" not in names
        return leaf if shared else leaf[back]

    moved = jax.tree_util.tree_map_with_path(renumbered, params)
    moved_state = jax.tree.map(lambda leaf: leaf[back], state)
    for task in range(TASKS):
        np.testing.assert_allclose(
            model.apply(moved, moved_state, of_task(order[task]), HERE)[0],
            model.apply(params, state, of_task(task), HERE)[0],
            rtol=1e-5,
        )


def test_gated_experts_are_a_mixture_by_numpy():
    expert = linear(WIDTH)
    model = multitask.gated_experts([expert], HEAD, TASKS, shared=2, own=1)
    params, state = begin(model)
    encoder, x = params["encoder"], np.asarray(X)
    outputs = [x @ encoder["shared0"]["experts"][k] for k in range(2)]
    outputs.append(x @ encoder["own0"]["experts"][1, 0])  # of task 1
    gate = jax.tree.map(lambda leaf: np.asarray(leaf[1]), encoder["gate0"]["head"])
    logits = np.mean(outputs[:2], axis=0) @ gate["kernel"] + gate["bias"]
    weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    features = sum(weights[:, [k]] * outputs[k] for k in range(3))
    np.testing.assert_allclose(
        model.apply(params, state, of_task(1))[0],
        features @ np.asarray(params["heads"][1]),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_further_level_of_experts_sees_what_the_first_mixed():
    # With gates of zeros every mixture is a mean of experts.
    expert = linear(WIDTH)
    model = multitask.gated_experts([expert, expert], HEAD, TASKS, shared=1, own=1)
    params, state = begin(model)
    encoder = {
        name: jax.tree.map(jnp.zeros_like, each) if "gate" in name else each
        for name, each in params["encoder"].items()
    }
    x = np.asarray(X)

    def level(number, common, special):
        shared = common @ encoder[f"shared{number}"]["experts"][0]
        return (shared + special @ encoder[f"own{number}"]["experts"][2, 0]) / 2

    first = level(0, x, x)
    expected = level(1, first, first) @ np.asarray(params["heads"][2])
    found, _ = model.apply({**params, "encoder": encoder}, state, of_task(2))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_attention_masks_shared_maps_by_numpy():
    stage = positions(3)
    model = multitask.task_attention([stage, stage], HEAD, TASKS, hidden=5)
    x = RANDOM.normal(size=(2, 4, 5)).astype(np.float32)
    params, state = model.init(KEY, of_task(0, jnp.asarray(x)))
    encoder = jax.tree.map(np.asarray, params["encoder"])

    def masked(number, maps, seen):
        own = jax.tree.map(lambda leaf: leaf[1], encoder[f"mask{number}"])  # of task 1
        hidden = np.maximum(seen @ own["hidden"]["kernel"] + own["hidden"]["bias"], 0)
        return maps / (1 + np.exp(-(hidden @ own["head"]["kernel"] + own["head"]["bias"])))

    maps = np.maximum(x @ encoder["stage0"], 0)
    first = masked(0, maps, maps)
    maps = np.maximum(maps @ encoder["stage1"], 0)
    carried = np.maximum(first @ encoder["carry1"], 0)
    second = masked(1, maps, np.concatenate([maps, carried], axis=-1))
    np.testing.assert_allclose(
        model.apply(params, state, of_task(1, jnp.asarray(x)))[0],
        second.reshape(2, -1) @ np.asarray(params["heads"][1]),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_head_that_sees_only_shared_features_makes_hard_sharing():
    network = MODELS["shared_private"]
    params, state = begin(network)
    cut = params["heads"].at[:, WIDTH:].set(0)
    hard = {"encoder": params["shared"], "heads": cut[:, :WIDTH]}
    np.testing.assert_allclose(
        network.apply({**params, "heads": cut}, state, of_task(1), HERE)[0],
        MODELS["hard_sharing"].apply(
            hard, {"encoder": state["shared"], "heads": ()}, of_task(1), HERE
        )[0],
        rtol=1e-6,
        atol=1e-6,
    )


def test_layers_above_the_depth_of_a_task_get_no_gradient_from_it():
    model = MODELS["hierarchical"]
    params, state = begin(model)

    def loss(params, task):
        return cross_entropy(model.apply(params, state, of_task(task), HERE)[0], Y, HERE)

    low, high = (jax.jit(jax.grad(loss))(params, task) for task in (0, 1))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves((low["stage1"], low["heads2"])))
    assert optax.tree.norm(low["stage0"]) > 1e-3
    assert optax.tree.norm(high["stage1"]) > 1e-3
    # Tasks 1 and 2 have the first and the second head of their depth.
    assert np.any(high["heads2"][0])
    assert not np.any(high["heads2"][1])


def test_statistics_of_a_head_are_those_of_its_own_task():
    model = multitask.hierarchical(STAGES, normalized_mlp(CLASSES), depths=[1, 2, 2])
    params, state = begin(model)
    for task, own in ((0, ("heads1", 0)), (1, ("heads2", 0)), (2, ("heads2", 1))):
        _, used = jax.jit(model.apply)(params, state, of_task(task), HERE)
        for heads in ("heads1", "heads2"):
            new, old = (jax.tree.leaves(tree[heads])[0] for tree in (used, state))
            for row in range(len(new)):
                assert np.any(new[row] != old[row]) == ((heads, row) == own)


@pytest.mark.parametrize("make", ["multitask", "adversarial"])
def test_an_average_moves_with_every_batch_of_its_task_and_with_no_other(make):
    if make == "multitask":
        objective = multitask.multitask(MODELS["hard_sharing"], decay=0.75)
    else:
        critic = linear(TASKS)
        objective = multitask.adversarial_sharing(BODY, BODY, HEAD, critic, TASKS, decay=0.75)
    order = [0, 2, 2, 2]
    batches = [Batch(of_task(t, X + i), Y, HERE) for i, t in enumerate(order)]
    several = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches)
    params, state = objective.init(KEY, batches[0])
    reports = jax.vmap(lambda task: objective.loss(params, state, task, KEY)[1])(several)
    mean = jax.tree.map(lambda leaf: leaf.mean(axis=0), reports.statistics)
    moved = objective.update(state, params, mean)
    alone = [objective.loss(params, state, each, KEY)[1].statistics.amount for each in batches]
    for task in range(TASKS):
        own = [each for each, t in zip(alone, order, strict=True) if t == task]
        amount = jax.tree.map(lambda leaf: leaf[task], state)  # noqa: B023
        expected = amount
        if own:
            visits = jax.tree.map(lambda *leaves: sum(leaves)[task] / len(leaves), *own)  # noqa: B023
            expected = jax.tree.map(lambda old, step: old + 0.25 * step, amount, visits)
        jax.tree.map(
            lambda new, right: np.testing.assert_allclose(new[task], right, rtol=1e-5),  # noqa: B023
            moved,
            expected,
        )


def test_examples_without_a_label_do_not_count():
    objective = multitask.multitask(MODELS["hard_sharing"], metrics={"accuracy": accuracy})
    batch = Batch(of_task(1), Y.at[4:].set(-1), HERE)
    params, state = objective.init(KEY, batch)
    value, report = objective.loss(params, state, batch, KEY)
    outputs, _ = MODELS["hard_sharing"].apply(params["model"], state["model"], batch.x, HERE)
    np.testing.assert_allclose(value, cross_entropy(outputs[:4], Y[:4], HERE[:4]), rtol=1e-6)
    right = accuracy(outputs[:4], Y[:4], HERE[:4])
    np.testing.assert_allclose(report.metrics["accuracy"], right)
    # Without any label a task says nothing, not even how uncertain it is.
    weighed = multitask.by_uncertainty(objective, TASKS)
    params, state = weighed.init(KEY, batch)
    for nothing in (Batch(of_task(1), jnp.full(6, -1), HERE), Batch(of_task(1), Y, 0 * HERE)):
        gradient = jax.grad(lambda p: weighed.loss(p, state, nothing, KEY)[0])(params)  # noqa: B023
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_uncertainty_ends_where_the_gradient_is_that_of_half_the_logarithm():
    objective = multitask.multitask(MODELS["hard_sharing"])
    weighed = multitask.by_uncertainty(objective, TASKS)
    batch = Batch(of_task(1), Y, HERE)
    params, state = weighed.init(KEY, batch)
    np.testing.assert_array_equal(params["log_variance"], np.full(3, -0.5, np.float32))
    value, _ = objective.loss({"model": params["model"]}, state, batch, KEY)
    params["log_variance"] = params["log_variance"].at[1].set(jnp.log(value))
    gradient = jax.grad(lambda p: weighed.loss(p, state, batch, KEY)[0])(params)
    np.testing.assert_allclose(gradient["log_variance"], np.zeros(3), atol=1e-6)
    half_log = jax.grad(lambda p: jnp.log(objective.loss({"model": p}, state, batch, KEY)[0]) / 2)(
        params["model"]
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        gradient["model"],
        half_log,
    )


def test_uncertainty_reports_the_loss_that_it_weighs():
    objective = multitask.multitask(MODELS["hard_sharing"], metrics={"accuracy": accuracy})
    weighed = multitask.by_uncertainty(objective, TASKS)
    batch = Batch(of_task(2), Y, HERE)
    params, state = weighed.init(KEY, batch)
    value, _ = objective.loss({"model": params["model"]}, state, batch, KEY)
    whole, report = weighed.loss(params, state, batch, KEY)
    assert report.metrics["loss"] == value
    assert report.metrics["weight"] == pytest.approx(np.exp(0.5) / 2)
    assert whole == pytest.approx(float(value) * np.exp(0.5) / 2 - 0.25, rel=1e-5)
    assert "accuracy" in report.metrics


def test_without_weights_adversarial_sharing_is_the_shared_private_network():
    critic = linear(TASKS)
    parts = BODY, BODY, HEAD, critic, TASKS
    objective = multitask.adversarial_sharing(*parts, adversary=0.0, orthogonal=0.0)
    plain = multitask.multitask(MODELS["shared_private"])
    batch = Batch(of_task(1), Y, HERE)
    params, state = objective.init(KEY, batch)
    gradient = jax.grad(lambda p: objective.loss(p, state, batch, KEY)[0])(params)
    expected = jax.grad(lambda p: plain.loss({"model": p}, state, batch, KEY)[0])(params["model"])
    exactly(gradient["model"], expected)


def test_shared_features_move_against_the_critic_and_away_from_private_ones():
    critic = linear(TASKS)
    parts = BODY, BODY, HEAD, critic, TASKS
    batch = Batch(of_task(1), Y, HERE)
    weights = {"adversary": 0.3, "orthogonal": 0.2}
    objective = multitask.adversarial_sharing(*parts, **weights)
    params, state = objective.init(KEY, batch)

    def features(model):
        return (
            multitask.statistics_per_task(BODY, TASKS).apply(
                model["shared"], state["model"]["shared"], batch.x, HERE
            )[0],
            multitask.per_task(BODY, TASKS).apply(
                model["private"], state["model"]["private"], batch.x, HERE
            )[0],
        )

    def whole(params):  # what is minimized, with the reversal as the sign of one term
        shared, private = features(params["model"])
        logits = jnp.concatenate([shared, private], axis=1) @ params["model"]["heads"][1]
        told = cross_entropy(reverse(shared) @ params["critic"], batch.x.task, HERE)
        return (
            cross_entropy(logits, Y, HERE)
            + 0.3 * told
            + 0.2 * jnp.sum(jnp.einsum("nd,ne->de", shared, private) ** 2)
        )

    gradient = jax.grad(lambda p: objective.loss(p, state, batch, KEY)[0])(params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        gradient,
        jax.grad(whole)(params),
    )


def test_orthogonality_is_the_frobenius_norm_and_ignores_padding():
    s, p = (RANDOM.normal(size=(5, d)).astype(np.float32) for d in (3, 2))
    mask = np.float32([1, 1, 1, 0, 0])
    expected = np.linalg.norm(s[:3].T @ p[:3]) ** 2
    assert multitask.orthogonality(s, p, mask) == pytest.approx(expected, rel=1e-5)


def test_columns_keep_to_themselves():
    model = multitask.columns(normalized_mlp(WIDTH), 2)
    x = jnp.stack([X, 2 * X + 1])
    params, state = model.init(KEY, x)
    outputs, used = model.apply(params, state, x, HERE)
    assert isinstance(used, Statistics)
    for i in range(2):
        alone = normalized_mlp(WIDTH).apply(
            *jax.tree.map(lambda leaf, i=i: leaf[i], (params, state)), x[i], HERE
        )
        np.testing.assert_allclose(outputs[i], alone[0], rtol=1e-5, atol=1e-6)


def test_mistakes_are_told_before_anything_is_computed():
    objective = multitask.multitask(MODELS["hard_sharing"])
    with pytest.raises(ValueError, match=r"dict.*sample = \{'batches'"):
        objective.init(KEY, {})
    with pytest.raises(ValueError, match=r"task_source"):
        objective.init(KEY, Batch(X, Y, HERE))
    with pytest.raises(ValueError, match=r"tasks.*0"):
        multitask.per_task(HEAD, 0)
    with pytest.raises(ValueError, match=r"stages is \[\]"):
        multitask.cross_stitch([], HEAD, TASKS)
    with pytest.raises(ValueError, match=r"depths is \[0, 3\].*1 to 2"):
        multitask.hierarchical(STAGES, HEAD, depths=[0, 3])
    with pytest.raises(ValueError, match=r"adversary is -1"):
        multitask.adversarial_sharing(BODY, BODY, HEAD, HEAD, TASKS, adversary=-1)
    wrong = multitask.adversarial_sharing(BODY, BODY, HEAD, linear(2), TASKS)
    batch = Batch(of_task(1), Y, HERE)
    with pytest.raises(ValueError, match=r"critic.*3 outputs"):
        wrong.loss(*wrong.init(KEY, batch), batch, KEY)
