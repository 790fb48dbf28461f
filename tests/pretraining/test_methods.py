"""Objectives of two views: what they see, what moves a teacher, and what no gradient reaches."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import pretraining
from jaxmeta.data import array_source, stream, streamed_source
from jaxmeta.nn import mlp, projector
from jaxmeta.objectives import two_views
from jaxmeta.pretraining import Teacher, rising
from jaxmeta.train import init_train_state, outer_loop, streamed_loop
from jaxmeta.types import Batch, Carried, Objective, Report
from tests.objective_contracts import normalized_mlp

KEY = jax.random.key(0)
ENCODER, HEAD = normalized_mlp(6), projector(5, hidden=[7])
NORMALIZED = projector(5, hidden=[7], normalized=True)
MOMENTUM, STEPS = 0.8, 4
METHODS = {
    "simclr": pretraining.simclr(ENCODER, HEAD),
    "supcon": pretraining.supcon(ENCODER, HEAD),
    "barlow_twins": pretraining.barlow_twins(ENCODER, HEAD),
    "vicreg": pretraining.vicreg(ENCODER, HEAD),
    "simsiam": pretraining.simsiam(ENCODER, NORMALIZED, HEAD),
    "byol": pretraining.byol(ENCODER, HEAD, HEAD, momentum=rising(MOMENTUM, STEPS)),
    "moco_v2": pretraining.moco_v2(ENCODER, HEAD, queue=20, momentum=rising(MOMENTUM, STEPS)),
    "dino": pretraining.dino(ENCODER, HEAD, prototypes=9, momentum=rising(MOMENTUM, STEPS)),
    "moco_v3": pretraining.moco_v3(ENCODER, HEAD, HEAD, momentum=rising(MOMENTUM, STEPS)),
}
TAUGHT = ("byol", "moco_v2", "moco_v3", "dino")
X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
SOURCE = array_source(X, np.arange(32) % 4)
SAMPLE = SOURCE.batches(8)


def noisy(key, x):
    return x + jax.random.normal(key, x.shape) / 2


def pair():
    one, other = jax.random.split(KEY)
    batch = SAMPLE(SOURCE.data, KEY)
    return batch._replace(x=(noisy(one, batch.x), noisy(other, batch.x)))


def begun(objective, task):
    """Parameters, a state whose teacher differs from them, and the task."""
    params, state = objective.init(KEY, task)
    if "teacher" in state:
        other = objective.init(jax.random.key(1), task)[0]
        taught = {name: other[name] for name in state["teacher"].params}
        state = {**state, "teacher": state["teacher"]._replace(params=taught)}
    if objective.carry is not None:
        task = Carried(task, objective.carry(params, state, task, KEY))
    return params, state, task


@pytest.mark.parametrize("name", METHODS)
def test_labels_are_not_looked_at(name):
    objective, task = METHODS[name], pair()
    params, state, _ = begun(objective, task)

    def outcome(y):
        changed = task._replace(y=y)
        if objective.carry is not None:
            changed = Carried(changed, objective.carry(params, state, changed, KEY))
        return objective.loss(params, state, changed, KEY)

    one, other = (outcome(y) for y in (task.y, (task.y * 7 + 1) % 3))
    alike = jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))
    assert all(alike) == (name != "supcon")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "moco_v2")) for name in TAUGHT]
)
def test_the_teacher_is_the_moving_average(name):
    objective = two_views(METHODS[name], noisy)
    optimizer = optax.sgd(0.5)
    params, state = objective.init(KEY, SAMPLE(SOURCE.data, KEY))
    carry = ()
    update = outer_loop(objective, optimizer, SAMPLE, meta_batch=2)
    if objective.carry is not None:
        batch = SAMPLE(SOURCE.data, KEY)
        one = objective.carry(params, state, batch, KEY)
        carry = jnp.stack([one, one])
    train_state = init_train_state(optimizer, params, state, carry)
    expected = [np.float64(leaf) for leaf in jax.tree.leaves(state["teacher"].params)]
    for step in range(STEPS):
        train_state, _ = update(train_state, SOURCE.data, KEY, 1)
        share = 1 - (1 - MOMENTUM) * (1 + np.cos(np.pi * step / STEPS)) / 2
        student = {name: train_state.params[name] for name in state["teacher"].params}
        expected = [
            share * old + (1 - share) * np.float64(new)
            for old, new in zip(expected, jax.tree.leaves(student), strict=True)
        ]
    teacher = train_state.state["teacher"]
    assert teacher.step == STEPS
    for leaf, value in zip(jax.tree.leaves(teacher.params), expected, strict=True):
        np.testing.assert_allclose(leaf, value, rtol=1e-5, atol=1e-6)
    begun = jax.tree.leaves(state["teacher"].params)
    assert max(np.abs(a - b).max() for a, b in zip(expected, begun, strict=True)) > 1e-3


def test_a_teacher_of_full_momentum_stays_to_the_bit():
    teacher = pretraining.teacher.new_teacher({"w": jnp.float32([0.1, 0.3])}, ())
    moved = pretraining.teacher.follow(teacher, {"w": jnp.float32([5.0, 7.0])}, (), 1.0)
    np.testing.assert_array_equal(moved.params["w"], teacher.params["w"])
    # And whatever the momentum, where it is as its student is.
    same = pretraining.teacher.follow(teacher, teacher.params, (), 0.37)
    np.testing.assert_array_equal(same.params["w"], teacher.params["w"])


def test_the_center_is_the_moving_average_of_the_teachers_outputs():
    objective, task = METHODS["dino"], pair()
    params, state, _ = begun(objective, task)
    expected = np.linspace(-1, 1, 9)
    state = {**state, "center": jnp.asarray(expected, jnp.float32)}
    for _ in range(3):  # the teacher moves on in every step
        teacher, outputs = state["teacher"].params, []
        for view in task.x:
            features, _ = ENCODER.apply(teacher["model"], None, view)
            z, _ = HEAD.apply(teacher["projector"], {"layer0": None}, features)
            outputs.append(unit(z) @ unit(teacher["prototypes"]).T)
        expected = 0.9 * expected + 0.1 * np.mean(outputs, axis=(0, 1))
        _, report = objective.loss(params, state, task, KEY)
        state = objective.update(state, params, report.statistics)
        np.testing.assert_allclose(state["center"], expected, rtol=1e-4, atol=1e-5)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("name", TAUGHT)
def test_no_gradient_reaches_the_teacher(name):
    objective = METHODS[name]
    params, state, task = begun(objective, pair())

    def loss(teacher_params, scale):
        teacher = state["teacher"]._replace(params=teacher_params)
        return objective.loss(params, {**state, "teacher": teacher}, task, KEY)[0] * scale

    teacher = state["teacher"].params
    for leaf in jax.tree.leaves(jax.grad(loss)(teacher, 1.0)):
        assert not leaf.any()
    other = jax.tree.map(lambda leaf: leaf + 0.3, teacher)
    assert abs(loss(teacher, 1.0) - loss(other, 1.0)) > 1e-3  # which is not ignored, though


def unequal(batch):
    """The batch, two of whose examples are padding."""
    return batch._replace(mask=jnp.array([1.0, 1, 0, 1, 1, 1, 0, 1]))


def by_hand(name, params, state, batch, queues):
    """The value of a method, each network called by itself, and each view's partner named."""
    here, mask = pretraining, batch.mask

    def run(tree, parts, view):
        for part, network in parts.items():
            view, _ = network.apply(tree[part], state[part], view, mask)
        return view

    head = NORMALIZED if name == "simsiam" else HEAD
    networks = {"model": ENCODER, "projector": head}
    one, two = (run(params, networks, view) for view in batch.x)
    if name in ("simclr", "barlow_twins", "vicreg"):
        value = getattr(here, f"{name}_loss")(one, two, mask)
        return 0.1 * value if name == "barlow_twins" else value
    if name == "supcon":
        return here.supcon_loss(one, two, batch.y, mask)
    tree = params if name == "simsiam" else state["teacher"].params
    taught, other = (run(tree, networks, view) for view in batch.x)
    if name == "moco_v2":
        first = here.moco_loss(one, other, queues[1], mask)
        return (first + here.moco_loss(two, taught, queues[0], mask)) / 2
    if name == "dino":
        cosines = [unit(z) @ unit(params["prototypes"]).T for z in (one, two)]
        targets = [unit(z) @ unit(tree["prototypes"]).T for z in (taught, other)]
        center = state["center"]
        first = here.dino_loss(cosines[0], targets[1], center, mask)
        return (first + here.dino_loss(cosines[1], targets[0], center, mask)) / 2
    asked = (run(params, {"predictor": HEAD}, z) for z in (one, two))
    losses = {"byol": here.byol_loss, "simsiam": here.simsiam_loss, "moco_v3": here.info_nce}
    pairs = zip(asked, (other, taught), strict=True)
    value = sum(losses[name](guess, target, mask) for guess, target in pairs)
    return 2 * 0.2 * value if name == "moco_v3" else value


@pytest.mark.parametrize("name", METHODS)
def test_the_value_is_that_of_each_view_and_the_other_by_hand(name):
    objective, batch = METHODS[name], unequal(pair())
    params, state, task = begun(objective, batch)
    queues = task.carry if isinstance(task, Carried) else None
    expected = by_hand(name, params, state, batch, queues)
    np.testing.assert_allclose(objective.loss(params, state, task, KEY)[0], expected, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_padding_changes_nothing(name):
    objective, batch = METHODS[name], unequal(pair())
    params, state, task = begun(objective, batch)

    def outcome(x):
        given = batch._replace(x=x)
        given = Carried(given, task.carry) if isinstance(task, Carried) else given
        loss = jax.value_and_grad(objective.loss, has_aux=True)
        return loss(params, state, given, KEY)

    padded = tuple(view.at[jnp.array([2, 6])].set(9.0) for view in batch.x)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        outcome(batch.x),
        outcome(padded),
    )


def test_a_teacher_has_statistics_of_its_own():
    objective, task = METHODS["byol"], pair()
    params, state, _ = begun(objective, task)
    _, report = objective.loss(params, state, task, KEY)
    for tree, found in ((params, report), (state["teacher"].params, None)):
        own = [ENCODER.apply(tree["model"], None, view)[1] for view in task.x]
        expected = jax.tree.map(lambda a, b: (a + b) / 2, *own)
        seen = report.statistics if found else report.statistics["teacher"]
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), seen["model"], expected
        )
    moved = objective.update(state, params, report.statistics)["teacher"].state
    expected = jax.tree.map(
        lambda old, new: 0.9 * old + 0.1 * new,
        state["teacher"].state,
        report.statistics["teacher"],
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), moved, expected)


def test_two_views_are_drawn_apart_and_the_second_may_be_another_augmentation():
    seen = Objective(
        init=lambda key, batch: (jnp.zeros(()), ()),
        loss=lambda params, state, batch, key: (params, Report((), {"batch": batch})),
    )
    batch = unequal(SAMPLE(SOURCE.data, KEY))

    def views(objective):
        found = objective.loss(jnp.zeros(()), (), batch, KEY)[1].metrics["batch"]
        np.testing.assert_array_equal(found.y, batch.y)
        np.testing.assert_array_equal(found.mask, batch.mask)
        return found.x

    first, second = views(two_views(seen, noisy))
    assert np.abs(first - second).min() > 0
    assert np.abs(first - batch.x).min() > 0
    first, second = views(two_views(seen, noisy, second=lambda key, x: x))
    np.testing.assert_array_equal(second, batch.x)
    assert np.abs(first - batch.x).min() > 0


def test_byol_of_its_own_network_is_simsiam():
    """Whose cosines are the same, with 4 for their sum's beginning and 4 times their weight."""
    byol = pretraining.byol(ENCODER, HEAD, HEAD, momentum=0.0)
    simsiam = pretraining.simsiam(ENCODER, HEAD, HEAD)
    task = pair()
    params, state = byol.init(KEY, task)
    grad = [
        jax.value_and_grad(each.loss, has_aux=True)(params, state, task, KEY)
        for each in (byol, simsiam)
    ]
    (one, _), gradient = grad[0]
    (other, _), expected = grad[1]
    np.testing.assert_allclose(one, 4 + 4 * other, rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, 4 * b, rtol=1e-3, atol=1e-5), gradient, expected
    )


def test_the_queue_holds_the_last_keys_in_order():
    objective = pretraining.moco_v2(ENCODER, HEAD, queue=20, momentum=1.0)
    task = pair()
    params, state = objective.init(KEY, task)
    queues, keys = objective.carry(params, state, task, KEY), []
    for step in range(3):
        batch = task._replace(x=tuple(view + step for view in task.x))
        _, report = objective.loss(params, state, Carried(batch, queues), KEY)
        queues = report.carry
        teacher = state["teacher"]
        for view in batch.x:
            features, _ = ENCODER.apply(teacher.params["model"], None, view)
            z, _ = HEAD.apply(teacher.params["projector"], {"layer0": None}, features)
            keys.append(z / jnp.linalg.norm(z, axis=1, keepdims=True))
    for own, view in ((0, keys[0::2]), (1, keys[1::2])):
        latest = jnp.concatenate([view[2], view[1], view[0]])[:20]
        np.testing.assert_allclose(queues[own], latest, rtol=1e-4, atol=1e-5)


def test_each_view_is_normalized_by_itself_and_the_averages_follow_their_mean():
    objective, task = METHODS["vicreg"], pair()
    params, state = objective.init(KEY, task)
    _, report = objective.loss(params, state, task, KEY)
    own = [ENCODER.apply(params["model"], None, view)[1] for view in task.x]
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *own)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        report.statistics["model"],
        expected,
    )
    assert isinstance(METHODS["byol"].init(KEY, task)[1]["teacher"], Teacher)


@pytest.mark.slow
def test_without_its_stop_gradient_simsiam_collapses():
    objective = pretraining.simsiam(ENCODER, HEAD, HEAD)

    def spread():
        optimizer = optax.sgd(0.1, momentum=0.9)
        update = outer_loop(two_views(objective, noisy), optimizer, SAMPLE, meta_batch=1)
        batch = SAMPLE(SOURCE.data, KEY)
        train_state = init_train_state(optimizer, *two_views(objective, noisy).init(KEY, batch))
        return update(train_state, SOURCE.data, KEY, 400)[1]["spread"][-50:].mean()

    assert spread() > 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.lax, "stop_gradient", lambda x: x)
        assert spread() < 0.1


def test_streamed_images_train_alike():
    """With a teacher, a count of steps and queues; two of three steps from a stream."""
    objective, optimizer = two_views(METHODS["moco_v2"], noisy), optax.sgd(0.5)
    order = np.argsort(np.arange(32) % 4, kind="stable")
    numbers = {f"class{label}": order[8 * label :][:8] for label in range(4)}
    streamed = streamed_source(X, numbers)
    assert (SOURCE.data.examples == X[order]).all()

    def begin():
        batch = SAMPLE(SOURCE.data, KEY)
        params, state = objective.init(KEY, batch)
        carry = objective.carry(params, state, batch, KEY)
        return init_train_state(optimizer, params, state, jnp.stack([carry, carry]))

    in_memory = outer_loop(objective, optimizer, SAMPLE, meta_batch=2)
    expected, metrics = in_memory(begin(), SOURCE.data, KEY, 3)
    sample = streamed.batches(8)
    loop = streamed_loop(objective, optimizer, sample, meta_batch=2)
    items = stream(sample, streamed.data, KEY, 2, start=0, stop=3)
    trained, of_stream = loop(begin(), items, KEY, 3)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        (trained, of_stream),
        (expected, metrics),
    )
    assert trained.state["teacher"].step == 3


@pytest.mark.parametrize("name", METHODS)
def test_the_task_is_a_batch_in_two_views(name):
    batch = SAMPLE(SOURCE.data, KEY)
    with pytest.raises(ValueError, match=r"put it into two_views"):
        METHODS[name].init(KEY, batch)
    episode = SOURCE.episodes(2, 1, 1)(SOURCE.data, KEY)
    with pytest.raises(ValueError, match=r"the task is a Episode: draw it by source.batches"):
        METHODS[name].init(KEY, episode)
    with pytest.raises(ValueError, match=r"the task is a Episode: draw it by source.batches"):
        two_views(METHODS[name], noisy).init(KEY, episode)
    assert isinstance(batch, Batch)


def test_bad_arguments():
    with pytest.raises(ValueError, match="temperature is 0: give a positive number"):
        pretraining.simclr(ENCODER, HEAD, temperature=0)
    with pytest.raises(ValueError, match=r"momentum is 1\.5: give the share"):
        pretraining.byol(ENCODER, HEAD, HEAD, momentum=1.5)
    objective, task = pretraining.moco_v2(ENCODER, HEAD, queue=4), pair()
    params, state = objective.init(KEY, task)
    with pytest.raises(ValueError, match="queue is 4: give a longer queue"):
        objective.carry(params, state, task, KEY)
    with pytest.raises(ValueError, match="start is -1: give the momentum of the first step"):
        rising(-1, 5)


def test_a_head_of_rotation_has_an_output_for_each_turn():
    images = Batch(jnp.ones((2, 4, 4, 1)), jnp.zeros(2, jnp.int32), jnp.ones(2))
    for outputs in (3, 5):
        with pytest.raises(ValueError, match=rf"\(8, {outputs}\).*4 outputs"):
            pretraining.rotation(mlp(6), mlp(outputs)).init(jax.random.key(0), images)
    larger = images._replace(x=jnp.ones((2, 6, 6, 1)))
    with pytest.raises(ValueError, match=r"images of one size"):
        pretraining.rotation(mlp(6)).init(jax.random.key(0), (images, larger))


def test_padding_changes_nothing_about_rotation():
    objective = pretraining.rotation(mlp(6))
    x = jax.random.normal(jax.random.key(1), (3, 4, 4, 1))
    images = Batch(x, jnp.zeros(3, jnp.int32), jnp.ones(3))
    padded = Batch(
        jnp.concatenate([x, 7 * x[:2]]), jnp.zeros(5, jnp.int32), jnp.array([1.0, 1, 1, 0, 0])
    )
    params, state = objective.init(jax.random.key(0), images)
    value_and_grad = jax.jit(
        jax.value_and_grad(lambda p, task: objective.loss(p, state, task, KEY)[0])
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        value_and_grad(params, images),
        value_and_grad(params, padded),
    )


@pytest.mark.parametrize("method", ["byol", "moco_v3", "moco_v2"])
@pytest.mark.parametrize("momentum", [None, 1.5, "high"])
def test_a_teacher_needs_a_momentum(method, momentum):
    parts = [mlp(4), mlp(4), mlp(4)][: 2 if method == "moco_v2" else 3]
    with pytest.raises(ValueError, match=r"momentum is .*from 0 to 1"):
        getattr(pretraining, method)(*parts, momentum=momentum)
