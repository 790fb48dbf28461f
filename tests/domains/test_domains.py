"""Domain adaptation: closed forms, NumPy in 64 bits, and what must not matter."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxmeta import domains
from jaxmeta.data import array_source, domain_shift
from jaxmeta.nn import conv4, from_functions, lenet, mlp
from jaxmeta.types import Batch, Episode
from tests.objective_contracts import normalized_mlp

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)
N, M, D, CLASSES = 6, 5, 3, 4
SOURCE, TARGET = (RANDOM.normal(size=(n, D)).astype(np.float32) for n in (N, M))
HERE, THERE = jnp.ones(N), jnp.ones(M)


def plain(*sizes):
    """A multi-layer perceptron in plain jax, which compiles faster than the library's."""

    def init(key, x):
        widths = [x.shape[-1], *sizes]
        keys = jax.random.split(key, len(sizes))
        pairs = zip(keys, widths[:-1], sizes, strict=True)
        return [jax.random.normal(key, (a, b)) / np.sqrt(a) for key, a, b in pairs]

    def apply(params, x):
        *hidden, last = params
        for kernel in hidden:
            x = jnp.tanh(x @ kernel)
        return x @ last

    return from_functions(init, apply)


MODEL, HEAD, CRITIC = plain(4, D), plain(CLASSES), plain(4, 2)
X = RANDOM.normal(size=(8, 5)).astype(np.float32)
Y = jnp.arange(8) % CLASSES
TASK = {
    "source": Batch(jnp.asarray(X), Y, jnp.ones(8)),
    "target": Batch(jnp.asarray(X) + 1, jnp.full(8, -1), jnp.ones(8)),
}
METHODS = {
    "source_only": domains.source_only(MODEL, HEAD),
    "mmd": domains.mmd(MODEL, HEAD),
    "coral": domains.coral(MODEL, HEAD),
    "dann": domains.dann(MODEL, CRITIC, HEAD, steps=10),
    "swap": domains.dann(MODEL, CRITIC, HEAD, steps=10, how="swap"),
    "cdan": domains.cdan(MODEL, CRITIC, HEAD, steps=10),
    "adda": domains.adda(MODEL, CRITIC, HEAD, pretraining=0),
}


def at_step(objective, step):
    """The parameters, and the state after so many steps."""
    params, state = objective.init(KEY, TASK)
    return params, {**state, "step": jnp.int32(step)}


# Reversal


def test_reversal_keeps_values_and_reverses_derivatives_of_every_order_and_mode():
    x = jnp.array([0.1, 1e20, -3.0])
    np.testing.assert_array_equal(domains.reverse(x, 0.7), x)

    def cube(x):
        return domains.reverse(x, 0.7) ** 3

    assert jax.grad(cube)(2.0) == pytest.approx(-0.7 * 12)
    assert jax.jvp(cube, (2.0,), (1.0,))[1] == pytest.approx(-0.7 * 12)
    # The reversal itself is linear: (-0.7)^2 times the second derivative of the cube.
    assert jax.grad(jax.grad(cube))(2.0) == pytest.approx(0.49 * 12, rel=1e-5)
    assert jax.grad(jax.grad(domains.reverse))(2.0) == 0


def test_reversal_within_an_inner_loop():
    def adapted(x):
        # One inner step on a loss that the shared part, below the reversal, would rather raise.
        return x - 0.1 * jax.grad(lambda fast: domains.reverse(fast * x) ** 2 / 2)(x)

    # The gradient by `fast` is -x * fast * x, so the step is x + 0.1 x^3 along the path of values.
    # Its own derivative takes the reversal twice: of fast * x by fast, and of the result by x.
    value, slope = jax.value_and_grad(adapted)(2.0)
    assert value == pytest.approx(2 + 0.1 * 8, rel=1e-6)
    # The inner gradient is g(fast, x) = r'(u) x r(u) = -x (fast x) with u = fast x, where r(u) has
    # the derivative -1 again: dg = -(fast x) dx + x (x dfast + fast dx) at fast = x.
    assert slope == pytest.approx(1 - 0.1 * (-4 + 2 * 4), rel=1e-5)


# Discrepancies


def mmd_by_hand(source, target, width):
    def kernel(a, b):
        square = ((a - b) ** 2).sum()
        return sum(np.exp(-square / (2 * scale * width)) for scale in (0.125, 0.25, 0.5, 1, 2))

    def within(z):
        return np.mean([kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j])

    return (
        within(source)
        + within(target)
        - 2 * np.mean([[kernel(s, t) for t in target] for s in source])
    )


def test_mmd_is_its_definition_at_its_own_width():
    both = np.concatenate([SOURCE, TARGET]).astype(np.float64)
    squares = ((both[:, None] - both[None]) ** 2).sum(axis=2)
    width = squares.sum() / (len(both) * (len(both) - 1))
    found = domains.mmd_loss(SOURCE, TARGET, HERE, THERE)
    np.testing.assert_allclose(
        found, mmd_by_hand(*map(np.float64, (SOURCE, TARGET)), width), rtol=1e-4
    )


def test_the_width_of_mmd_is_not_differentiated():
    width = 2.0
    scaled = jax.grad(domains.mmd_loss)(SOURCE, TARGET, HERE, THERE, width=width)
    eps = 1e-4
    shift = np.zeros_like(SOURCE)
    shift[0, 0] = eps
    moved = [
        mmd_by_hand(*map(np.float64, (SOURCE + sign * shift, TARGET)), width) for sign in (1, -1)
    ]
    assert scaled[0, 0] == pytest.approx((moved[0] - moved[1]) / (2 * eps), rel=1e-2)


def test_mmd_of_two_normal_distributions_is_its_closed_form_on_average():
    first, second, q = (0.0, 1.0), (1.0, 0.5), 2.0

    def k(mean, variance):
        return np.sqrt(q / (q + variance)) * np.exp(-(mean**2) / (2 * (q + variance)))

    expected = (
        k(0, 2 * first[1]) + k(0, 2 * second[1]) - 2 * k(first[0] - second[0], first[1] + second[1])
    )

    @jax.jit
    @jax.vmap
    def drawn(key):
        z = jax.random.normal(key, (2, 40, 1))
        s, t = (m + np.sqrt(v) * z[i] for i, (m, v) in enumerate((first, second)))
        ones = jnp.ones(40)
        alike = domains.mmd_loss(z[0], z[1], ones, ones, scales=(1.0,), width=q)
        return domains.mmd_loss(s, t, ones, ones, scales=(1.0,), width=q), alike

    values, alike = drawn(jax.random.split(KEY, 2_000))
    for found, wanted in ((values, expected), (alike, 0.0)):
        assert abs(found.mean() - wanted) < 4 * found.std() / np.sqrt(len(found))
    assert alike.min() < 0  # unbiased, so it cannot be positive always


def test_coral_is_unchanged_by_a_common_rotation_and_by_shifts_and_grows_with_the_fourth_power():
    rotation = np.linalg.qr(RANDOM.normal(size=(D, D)))[0].astype(np.float32)
    found = domains.coral_loss(SOURCE, TARGET, HERE, THERE)
    apart = np.cov(SOURCE.T) - np.cov(TARGET.T)
    np.testing.assert_allclose(found, (apart**2).sum() / (4 * D**2), rtol=1e-5)
    for source, target, factor in (
        (SOURCE @ rotation, TARGET @ rotation, 1),
        (SOURCE + 3, TARGET - 2, 1),
        (2 * SOURCE, 2 * TARGET, 16),
    ):
        again = domains.coral_loss(source, target, HERE, THERE)
        np.testing.assert_allclose(again, factor * found, rtol=1e-4)


def test_the_gradient_of_coral_is_its_closed_form():
    gradient = jax.grad(domains.coral_loss)(SOURCE, TARGET, HERE, THERE)
    apart = np.cov(SOURCE.T) - np.cov(TARGET.T)
    expected = (SOURCE - SOURCE.mean(axis=0)) @ apart / (D**2 * (N - 1))
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


LOSSES = {
    "mmd": domains.mmd_loss,
    "coral": domains.coral_loss,
    "critic": lambda *features: domains.critic_loss(CRITIC, CRITIC.init(KEY, SOURCE)[0], *features)[
        0
    ],
}


@pytest.mark.parametrize("name", LOSSES)
def test_padding_and_order_change_no_loss_of_features(name):
    loss = LOSSES[name]
    order = np.array([3, 1, 0, 2, 5, 4])
    padded = np.concatenate([SOURCE, 100 * np.ones((2, D), np.float32)])
    found = loss(SOURCE, TARGET, HERE, THERE)
    for again in (
        loss(SOURCE[order], TARGET, HERE, THERE),
        loss(padded, TARGET, jnp.array([1.0] * N + [0.0] * 2), THERE),
    ):
        np.testing.assert_allclose(again, found, rtol=1e-4)


@pytest.mark.parametrize("name", ["mmd_loss", "coral_loss"])
def test_discrepancies_refuse_features_that_do_not_fit(name):
    loss = getattr(domains, name)
    with pytest.raises(ValueError, match=re.escape("(6, 3) and (5, 2)")):
        loss(SOURCE, TARGET[:, :2], HERE, THERE)
    with pytest.raises(ValueError, match=re.escape("masks (5,) and (5,)")):
        loss(SOURCE, TARGET, THERE, THERE)


# Critics


def critic_of(how, strength=1.0):
    params = CRITIC.init(jax.random.key(3), SOURCE)[0]

    def loss(params, source, target):
        return domains.critic_loss(
            CRITIC, params, source, target, HERE, THERE, strength=strength, how=how
        )[0]

    return jax.value_and_grad(loss, argnums=(0, 1, 2))(params, SOURCE, TARGET)


def test_both_ways_of_opposing_a_critic_have_its_value_and_its_gradient():
    value, (critic, source, target) = critic_of("reverse")
    swapped_value, (swapped_critic, swapped_source, swapped_target) = critic_of("swap")
    np.testing.assert_allclose(value, swapped_value, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), critic, swapped_critic)
    # Labels that are exchanged push p / (1 - p) times as hard, p being that of the true domain.
    params = CRITIC.init(jax.random.key(3), SOURCE)[0]
    for features, gradient, other, domain in (
        (SOURCE, source, swapped_source, 0),
        (TARGET, target, swapped_target, 1),
    ):
        p = jax.nn.softmax(CRITIC.apply(params, {}, features)[0])[:, domain]
        np.testing.assert_allclose(gradient * (p / (1 - p))[:, None], other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("how", ["reverse", "swap"])
def test_the_strength_is_that_of_the_features_gradient_alone(how):
    _, (critic, source, _) = critic_of(how)
    _, (same_critic, stronger, _) = critic_of(how, strength=3.0)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), critic, same_critic)
    np.testing.assert_allclose(stronger, 3 * source, rtol=1e-5)


def test_the_features_of_a_reversed_critic_climb_its_loss():
    params = CRITIC.init(jax.random.key(3), SOURCE)[0]
    _, (_, source, _) = critic_of("reverse")

    def plain(source):
        return domains.critic_loss(CRITIC, params, source, TARGET, HERE, THERE, strength=0)[0]

    step = 1e-2
    assert plain(SOURCE - step * source) > plain(SOURCE)


def test_a_critic_learns_to_tell_domains_apart_unless_they_are_equal():
    def trained(shift):
        draw = jax.random.normal
        params = CRITIC.init(KEY, SOURCE)[0]
        optimizer = optax.sgd(0.3)
        ones = jnp.ones(64)

        def loss(params, key):
            one, other = jax.random.split(key)
            here, there = draw(one, (64, D)) - shift, draw(other, (64, D)) + shift
            return domains.critic_loss(CRITIC, params, here, there, ones, ones)

        def step(carry, key):
            params, state = carry
            gradient, metrics = jax.grad(loss, has_aux=True)(params, key)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), metrics

        keys = jax.random.split(KEY, 300)
        _, metrics = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        return {name: float(values[-100:].mean()) for name, values in metrics.items()}

    equal, apart = trained(0.0), trained(1.0)
    assert equal["critic_accuracy"] == pytest.approx(0.5, abs=0.03)
    assert equal["critic_loss"] == pytest.approx(np.log(2), abs=0.03)
    assert apart["critic_accuracy"] > 0.9


def test_a_critic_that_cannot_tell_is_right_half_the_time_however_many_examples_there_are():
    constant = from_functions(lambda key, x: jnp.array([1.0, 0.0]), lambda b, x: b + 0 * x[:, :2])
    here, there = jnp.ones((30, D)), jnp.ones((10, D))
    metrics = domains.critic_loss(
        constant, jnp.array([[1.0, 0.0]]), here, there, jnp.ones(30), jnp.ones(10)
    )[1]
    assert metrics["critic_accuracy"] == 0.5


def test_a_critic_needs_two_outputs_and_a_known_way():
    wide = mlp(3, ())
    with pytest.raises(ValueError, match="two outputs"):
        domains.critic_loss(wide, wide.init(KEY, SOURCE)[0], SOURCE, TARGET, HERE, THERE)
    with pytest.raises(ValueError, match="'reverse' or 'swap'"):
        critic_of("forward")


def test_strength_zero_leaves_the_classifier_to_itself_and_the_critic_to_learn():
    dann = METHODS["dann"]
    params, state = at_step(dann, 0)
    gradient = jax.grad(lambda p: dann.loss(p, state, TASK, KEY)[0])(params)
    alone = METHODS["source_only"]
    kept = {name: params[name] for name in ("model", "head")}
    of_alone = jax.grad(lambda p: alone.loss(p, {"model": {}, "head": {}}, TASK, KEY)[0])(kept)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        {name: gradient[name] for name in kept},
        of_alone,
    )
    assert optax.tree.norm(gradient["critic"]) > 1e-3


def test_the_strength_rises_with_the_steps():
    dann = METHODS["dann"]
    norms = []
    for step in (0, 1, 10, 20):
        params, state = at_step(dann, step)
        gradient = jax.grad(
            lambda p, state=state: dann.loss(p, state, TASK, KEY)[1].metrics["penalty"]
        )(params)
        norms.append(optax.tree.norm(gradient["model"]))
    strengths = [float(domains.rising_strength(jnp.float32(p))) for p in (0, 0.1, 1, 1)]
    np.testing.assert_allclose(
        np.array(norms) / norms[2], np.array(strengths) / strengths[2], rtol=1e-4
    )
    np.testing.assert_allclose(strengths[1], 2 / (1 + np.exp(-1)) - 1, rtol=1e-5)


# Conditional critics


def test_products_multiply_and_select():
    f, g = RANDOM.normal(size=(2, 5, D)), RANDOM.normal(size=(2, 5, CLASSES))
    first, second = (np.asarray(domains.products(f[i], g[i])) for i in (0, 1))
    chances = np.asarray(jax.nn.softmax(g))
    np.testing.assert_allclose(
        (first * second).sum(axis=1),
        (f[0] * f[1]).sum(axis=1) * (chances[0] * chances[1]).sum(axis=1),
        rtol=1e-5,
    )
    sure = domains.products(SOURCE, 200 * np.eye(CLASSES, dtype=np.float32)[[2] * N])
    blocks = np.asarray(sure).reshape(N, D, CLASSES)
    np.testing.assert_allclose(blocks[:, :, 2], SOURCE, rtol=1e-6)
    assert np.abs(blocks[:, :, [0, 1, 3]]).max() < 1e-6


def test_cdan_of_even_predictions_is_dann_with_the_rows_of_the_critic_averaged():
    linear = mlp(2, ())
    even = jnp.zeros((N, CLASSES))
    params = linear.init(KEY, domains.products(SOURCE, even))[0]
    logits = linear.apply(params, {}, domains.products(SOURCE, even))[0]
    kernel = params["head"]["kernel"].reshape(D, CLASSES, 2).mean(axis=1)
    np.testing.assert_allclose(logits, SOURCE @ kernel + params["head"]["bias"][None], atol=1e-5)


def test_certainty_weighs_by_entropy_with_a_mean_of_one_and_no_gradient():
    logits = RANDOM.normal(size=(N, CLASSES)).astype(np.float32)
    mask = jnp.array([1.0, 1, 1, 1, 0, 0])
    weights = domains.certainty(logits, mask)
    p = np.asarray(jax.nn.softmax(logits), np.float64)
    raw = 1 + np.exp((p * np.log(p)).sum(axis=1))
    np.testing.assert_allclose(weights, raw / raw[:4].mean(), rtol=1e-5)
    gradient = jax.grad(lambda z: domains.certainty(z, mask)[0])(logits)
    np.testing.assert_array_equal(gradient, 0)


# Objectives


@pytest.mark.parametrize("name", METHODS)
def test_labels_of_the_target_change_nothing(name):
    objective = METHODS[name]
    garbage = {**TASK, "target": TASK["target"]._replace(y=jnp.array([7, 1, -1, 90, 2, 0, 3, 5]))}

    @jax.jit
    def computed(task):
        params, state = objective.init(KEY, task)
        if "step" in state:  # where what rises over the run is no longer zero
            state = {**state, "step": jnp.int32(7)}
        return jax.value_and_grad(objective.loss, has_aux=True)(params, state, task, KEY)

    ours, theirs = computed(TASK), computed(garbage)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    moved = {**TASK, "target": TASK["target"]._replace(x=TASK["target"].x * 2)}
    assert (name == "source_only") == np.allclose(
        *(optax.tree.norm(gradient["model"]) for _, gradient in (ours, computed(moved))), rtol=1e-4
    )


def gradient_of(objective, params, state):
    return jax.grad(lambda p: objective.loss(p, state, TASK, KEY)[0])(params)


def test_adda_is_source_only_then_an_encoder_of_the_target_against_a_critic():
    objective = domains.adda(MODEL, CRITIC, HEAD, pretraining=2)
    params, state = objective.init(KEY, TASK)
    begun = params
    alone = gradient_of(METHODS["source_only"], params, {"model": {}, "head": {}})
    for step in range(2):
        if step == 0:
            found = gradient_of(objective, params, state)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
                {name: found[name] for name in ("model", "head")},
                {name: alone[name] for name in ("model", "head")},
            )
            assert optax.tree.norm(found["critic"]) == 0
        params = jax.tree.map(lambda leaf: 1.1 * leaf, params)
        _, report = objective.loss(params, state, TASK, KEY)
        state = objective.update(state, params, report.statistics)
    # The encoder of the source is that of the last step of pretraining, and is kept.
    kept = params["model"]
    params = jax.tree.map(lambda leaf: 1.1 * leaf, params)
    _, report = objective.loss(params, state, TASK, KEY)
    state = objective.update(state, params, report.statistics)
    jax.tree.map(np.testing.assert_array_equal, state["source"]["params"], kept)
    found = gradient_of(objective, params, state)
    assert optax.tree.norm(found["head"]) == 0
    here, _ = MODEL.apply(kept, {}, TASK["source"].x)

    def fooled(model):
        there, _ = MODEL.apply(model, {}, TASK["target"].x)
        logits, _ = CRITIC.apply(params["critic"], {}, there)
        return -jax.nn.log_softmax(logits)[:, 0].mean() / 2

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        found["model"],
        jax.grad(fooled)(params["model"]),
    )

    def told(critic):
        there, _ = MODEL.apply(params["model"], {}, TASK["target"].x)
        logits = [CRITIC.apply(critic, {}, features)[0] for features in (here, there)]
        return -sum(jax.nn.log_softmax(z)[:, domain].mean() for domain, z in enumerate(logits)) / 2

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        found["critic"],
        jax.grad(told)(params["critic"]),
    )
    assert jax.tree.structure(begun) == jax.tree.structure(params)


def test_domains_are_normalized_together_or_apart():
    model = normalized_mlp(D)
    for statistics, of in (
        ("together", [*TASK]),
        ("apart", ["target"]),
    ):
        objective = domains.coral(model, HEAD, statistics=statistics, decay=0.0)
        params, state = objective.init(KEY, TASK)
        _, report = objective.loss(params, state, TASK, KEY)
        after = objective.update(state, params, report.statistics)
        x = jnp.concatenate([TASK[name].x for name in of])
        _, expected = model.apply(params["model"], state["model"], x)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
            after["model"],
            expected,
        )
        assert after["step"] == 1


def test_objectives_refuse_what_is_not_two_domains():
    for task in (TASK["source"], {"source": TASK["source"]}):
        with pytest.raises(ValueError, match="paired"):
            METHODS["dann"].init(KEY, task)
    with pytest.raises(ValueError, match="'together' or 'apart'"):
        domains.coral(MODEL, HEAD, statistics="both")
    with pytest.raises(ValueError, match="-1"):
        domains.mmd(MODEL, HEAD, weight=-1.0)
    with pytest.raises(ValueError, match="steps"):
        domains.dann(MODEL, CRITIC, HEAD, steps=0)


# Choosing without labels


def test_validators_are_their_definitions():
    logits = RANDOM.normal(size=(N, CLASSES)).astype(np.float32)
    mask = jnp.array([1.0, 1, 1, 0, 1, 1])
    p = np.asarray(jax.nn.softmax(logits), np.float64)[[0, 1, 2, 4, 5]]

    def entropy(p):
        return -(p * np.log(p)).sum(axis=-1)

    y = jnp.full(N, -1)
    np.testing.assert_allclose(
        domains.prediction_entropy(logits, y, mask), entropy(p).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(
        domains.mutual_information(logits, y, mask),
        entropy(p.mean(axis=0)) - entropy(p).mean(),
        rtol=1e-4,
    )
    one_class = jnp.zeros((N, CLASSES)).at[:, 0].set(90.0)  # sure, and of no use
    assert abs(domains.mutual_information(one_class, y, mask)) < 1e-6


def test_the_learning_rate_falls_like_a_power_of_the_progress():
    rate = domains.annealed(0.01, decay_steps=100)
    np.testing.assert_allclose(rate(50), 0.01 / 6**0.75, rtol=1e-6)
    np.testing.assert_allclose(rate(1000), rate(100))


# Data and networks


def test_a_domain_shift_pairs_both_and_shows_no_label_of_the_target():
    here = array_source(np.arange(8.0)[:, None], Y)
    there = array_source(-np.arange(8.0)[:, None] - 1, Y)
    sources = domain_shift(
        *(dict.fromkeys(("train", "valid", "test"), each) for each in (here, there))
    )
    train, unlabeled = sources["train"], sources["unlabeled"]
    task = jax.jit(train.batches(16))(train.data, KEY)
    assert (task["source"].x >= 0).all()
    assert (task["target"].x < 0).all()
    np.testing.assert_array_equal(task["source"].y, task["source"].x[:, 0] % CLASSES)
    np.testing.assert_array_equal(task["target"].y, -1)
    np.testing.assert_array_equal(unlabeled.whole(unlabeled.data, KEY).y, -1)
    test = sources["test"]
    np.testing.assert_array_equal(test.whole(test.data, KEY).y, np.repeat(np.arange(CLASSES), 2))
    few = {part: array_source([[1.0]], [0]) for part in ("train", "valid", "test")}
    with pytest.raises(ValueError, match="4 classes and the target 1"):
        domain_shift({"train": here, "valid": here, "test": here}, few)


def test_domains_of_other_shapes_or_parts_are_refused():
    flat, wide = (array_source(np.ones((4, size)), Y[:4]) for size in (2, 3))
    parts = ("train", "valid", "test")
    with pytest.raises(ValueError, match=re.escape("float32[1, 2] and those of the target")):
        domain_shift(dict.fromkeys(parts, flat), dict.fromkeys(parts, wide))
    with pytest.raises(ValueError, match="target has no part 'valid'"):
        domain_shift(dict.fromkeys(parts, flat), {"train": flat, "test": flat})
    unlabeled = domain_shift(*[dict.fromkeys(parts, flat)] * 2)["unlabeled"]
    with pytest.raises(ValueError, match="no classes"):
        unlabeled.episodes(1, 1, 1)
    assert unlabeled.batches is None


def test_lenet_has_the_features_of_the_papers_and_refuses_small_images():
    images = jnp.ones((2, 28, 28, 1))
    for filters, features in (((32, 48), 768), ((20, 50), 800)):
        model = lenet(filters)
        params, state = jax.eval_shape(model.init, KEY, images)
        assert jax.eval_shape(model.apply, params, state, images)[0].shape == (2, features)
    with pytest.raises(ValueError, match="8 x 8 pixels"):
        lenet().init(KEY, jnp.ones((1, 8, 8, 1)))


def test_lenet_is_convolutions_biases_and_maxima():
    model, x = lenet((2, 3)), jax.random.normal(KEY, (2, 16, 18, 2))
    params, state = model.init(KEY, x)
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    features = x
    for block in params.values():
        features = jax.lax.conv_general_dilated(
            features, block["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        features = jax.nn.relu(features + block["bias"][None, None, None])
        features = jax.lax.reduce_window(
            features, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        )
    found, _ = model.apply(params, state, x)
    np.testing.assert_allclose(found, features.reshape(2, -1), atol=1e-4)


def test_methods_work_with_batch_normalization_and_images():
    images = {
        name: Batch(jax.random.normal(KEY, (4, 16, 16, 1)), Y[:4], jnp.ones(4)) for name in TASK
    }
    objective = domains.dann(conv4(filters=2), CRITIC, HEAD, steps=3, statistics="apart")
    params, state = objective.init(KEY, images)
    value, report = objective.loss(params, state, images, KEY)
    assert np.isfinite(value)
    after = objective.update(state, params, report.statistics)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def quadratic(outputs, y, mask):
    """The loss c (t - a)^2 / 2 of a parameter t, for labels (a, c)."""
    return jnp.mean(mask * y[:, 1] * (outputs[:, 0] - y[:, 0]) ** 2) / 2


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("alpha", [1e-9, 0.3])
def test_mldg_on_two_quadratics(alpha, first_order):
    a, f, b, g, beta, t = 1.5, 0.7, -0.4, 1.9, 0.6, 0.25
    point = from_functions(lambda key, x: jnp.asarray(t), lambda t, x: jnp.full((len(x), 1), t))
    seen, held = (
        Batch(jnp.ones((3, 1)), jnp.tile(jnp.asarray([label]), (3, 1)), jnp.ones(3))
        for label in ([a, f], [b, g])
    )
    objective = domains.mldg(
        point, quadratic, learning_rate=alpha, weight=beta, first_order=first_order
    )
    params, state = objective.init(KEY, Episode(seen, held))
    (value, report), gradient = jax.value_and_grad(objective.loss, has_aux=True)(
        params, state, Episode(seen, held), KEY
    )
    after = (1 - alpha * f) * t + alpha * f * a
    inner = 1 if first_order else 1 - alpha * f
    expected = f * (t - a) + beta * g * inner * (after - b)
    np.testing.assert_allclose(gradient["model"], expected, rtol=1e-5)
    np.testing.assert_allclose(report.metrics["held_out_loss"], g * (after - b) ** 2 / 2, rtol=1e-5)
    np.testing.assert_allclose(
        value, f * (t - a) ** 2 / 2 + beta * g * (after - b) ** 2 / 2, rtol=1e-5
    )
