"""Gradients of losses that are only evaluated, at randomly perturbed parameters."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_positive
from jaxmeta.types import Array, Carried, Key, Objective, PyTree, Report

NOISE = ("persistent", "single", "fresh")


class Perturbed(NamedTuple):
    """What a task carries that is perturbed in two directions.

    Attributes:
      up: what the objective carries at the parameters plus the noise.
      down: likewise, minus the noise.
      noise: the sum of the noise since the trajectory began, or the noise of the whole trajectory.
    """

    up: PyTree
    down: PyTree
    noise: PyTree


def evolution_strategies(
    objective: Objective, sigma: float = 0.01, noise: str = "persistent"
) -> Objective:
    r"""An objective whose gradient is estimated from its values alone.

    .. math:: \hat g = \frac{\ell(\theta + \sigma \epsilon) - \ell(\theta - \sigma \epsilon)}
                            {2 \sigma}\, \xi, \qquad \epsilon \sim \mathcal{N}(0, I)

    Nothing is differentiated, so losses need no derivative, and long trajectories no memory. The
    expectation is the gradient of the loss smoothed by the noise. Each task has noise of its own.

    If each step is a stretch of a trajectory that goes on, :math:`\xi` decides what the estimate
    knows of earlier stretches:

    - ``"persistent"``: the sum of the noise of all stretches so far, each with noise of its own.
      The sum of the estimates along a trajectory has the mean of one that sees it whole.
    - ``"single"``: one noise for a whole trajectory. The estimates sum to that of the whole.
    - ``"fresh"``: the noise of the stretch, whose estimate ignores what earlier weights did.

    Without a carry, the three are the same. Persistent noise is for trajectories that end: its sum,
    and the variance, grow with their length. A trajectory that diverges makes the estimate of the
    whole step NaN, so bound losses that may, as by ``jnp.minimum``.

    Args:
      objective: what is minimized. If it carries anything, that has a field ``done``: whether the
        next step starts a trajectory anew, as :class:`jaxmeta.objectives.Trajectory` has.
      sigma: standard deviation of the noise.
      noise: ``"persistent"``, ``"single"`` or ``"fresh"``.

    Returns:
      An objective with the same parameters, whose value is the mean of the two losses. Statistics
      and metrics are means of both, too. It has no further derivatives.

    Raises:
      ValueError: ``sigma`` is not positive, ``noise`` is none of the three or, when called, the
        carry does not say when it is done.

    References:
      Vicol, Metz and Sohl-Dickstein, 2021, Unbiased Gradient Estimation in Unrolled Computation
      Graphs with Persistent Evolution Strategies, algorithm 2; Vicol, Kolter and Swersky, 2023,
      Low-Variance Gradient Estimation in Unrolled Computation Graphs with ES-Single.

    >>> from jaxmeta.gradients import estimate
    >>> line = Objective(
    ...     init=lambda key, task: (jnp.zeros(()), ()),
    ...     loss=lambda params, state, task, key: (3 * params, Report()),
    ... )
    >>> keys = jax.random.split(jax.random.key(0), 10_000)
    >>> gradient = estimate(evolution_strategies(line))(jnp.zeros(()), (), jnp.zeros(10_000), keys)
    >>> abs(gradient[0].item() - 3) < 0.2
    True
    """
    check_positive("sigma", sigma)
    if noise not in NOISE:
        raise ValueError(f"noise is {noise!r}: choose {', '.join(map(repr, NOISE))}.")
    begin = objective.carry

    def loss(params: PyTree, state: PyTree, task: PyTree, key: Key) -> tuple[Array, Report]:
        noise_key, loss_key = jax.random.split(key)
        at = jax.lax.stop_gradient(params)
        epsilon = normal_like(noise_key, at)
        direction, tasks = epsilon, (task, task)
        if begin is not None:
            carried: Perturbed = task.carry
            begins = done(carried.up)
            if noise == "single":
                epsilon = direction = choose(begins, epsilon, carried.noise)
            elif noise == "persistent":
                summed = jax.tree.map(jnp.add, carried.noise, epsilon)
                direction = choose(begins, epsilon, summed)
            tasks = Carried(task.task, carried.up), Carried(task.task, carried.down)

        def there(sign: float, task: PyTree) -> tuple[Array, Report]:
            moved = jax.tree.map(lambda leaf, e: leaf + sign * sigma * e, at, epsilon)
            return objective.loss(moved, state, task, loss_key)

        (high, up), (low, down) = there(1.0, tasks[0]), there(-1.0, tasks[1])
        slope = (high - low) / (2 * sigma)
        # A value whose gradient is the estimate.
        tilted = sum(
            (
                _tilt(slope, d, leaf)
                for d, leaf in zip(jax.tree.leaves(direction), jax.tree.leaves(params), strict=True)
            ),
            jnp.zeros_like(slope),
        )
        seen = (up.statistics, up.metrics), (down.statistics, down.metrics)
        statistics, metrics = jax.tree.map(lambda a, b: (a + b) / 2, *seen)
        kept = () if begin is None else Perturbed(up.carry, down.carry, direction)
        value = jax.lax.stop_gradient((high + low) / 2) + tilted
        return value, Report(statistics, metrics, kept)

    if begin is None:
        return objective._replace(loss=loss)

    def carry(params: PyTree, state: PyTree, task: PyTree, key: Key) -> Perturbed:
        noise_key, begin_key = jax.random.split(key)
        start = begin(params, state, task, begin_key)
        done(start)
        first = normal_like(noise_key, params)
        if noise != "single":
            first = jax.tree.map(jnp.zeros_like, first)
        return Perturbed(start, start, first)

    return objective._replace(loss=loss, carry=carry)


def _tilt(slope: Array, direction: Array, leaf: Array) -> Array:
    """Zero, with a gradient of ``slope * direction`` by the leaf."""
    wide = leaf.astype(slope.dtype)
    gradient = jax.lax.stop_gradient(slope * direction.astype(slope.dtype))
    return jnp.sum(gradient * (wide - jax.lax.stop_gradient(wide)))


def normal_like(key: Key, params: PyTree) -> PyTree:
    """Standard normal noise with the shapes and types of parameters."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        jax.random.normal(k, jnp.shape(leaf), jnp.result_type(leaf))
        for k, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def choose(condition: Array, yes: PyTree, no: PyTree) -> PyTree:
    """One of two pytrees."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)


def done(carry: PyTree) -> Array:
    """Whether a trajectory is done; raises ``ValueError`` if it does not say."""
    found: Array | None = getattr(carry, "done", None)
    if found is None:
        raise ValueError(
            "The objective's carry has no field 'done', which says when a trajectory starts anew: "
            "give one, as jaxmeta.objectives.trajectories does."
        )
    return found
