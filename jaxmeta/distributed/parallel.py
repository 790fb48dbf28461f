"""Spreading tasks over devices, those of other processes among them: the only file that does."""

import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmeta.distributed.microbatches import cut, given
from jaxmeta.gradients import Gradient
from jaxmeta.types import Array, PyTree

TASKS = "tasks"
"""The name of the axis of devices over which tasks are spread."""
PARAMETERS = "parameters"
"""The name of the axis over which parameters are, where they do not fit on one device."""

Mean = Callable[[PyTree, PyTree, Array | None], PyTree]
"""``(common, items [k, ...], weights [k] or None) -> weighed sums over the items``, or means."""

Spread = Callable[[Mean], Mean]
"""Made by :func:`by_shard_map` or :func:`by_pmap`."""


def use_cores() -> None:
    """Makes every core of a CPU a device, so that each computes tasks of its own.

    Two cores that share one task wait for each other after every operation; two tasks need not.
    Call it before jax computes anything. It leaves alone a number of CPU devices that was set
    already, and accelerators.

    Raises:
      RuntimeError: jax has computed something already.
    """
    chosen = jax.config.values["jax_num_cpu_devices"] > 0
    if not chosen and "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores())


def cores() -> int:
    """The cores that this process may use."""
    # Not every system says which those are.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def sharing(tasks: int) -> list[jax.Device]:
    """The devices that are to share so many tasks: those that would have one.

    All devices where there are several processes, each of which has to take part.
    """
    devices = jax.devices()
    if jax.process_count() > 1:
        return devices
    each = -(-tasks // len(devices))
    return devices[: -(-tasks // each)]


def replicate(tree: PyTree, devices: Sequence[jax.Device], shards: int = 1) -> PyTree:
    """Puts a copy on every device, or on every group of them, once, where each call would have to.

    Where there are several processes, each has to call it with the same values.

    Args:
      tree: arrays.
      devices: where to.
      shards: devices of a group, over which each array is cut along the last axis that so many
        divide; an array without such an axis is copied to all.
    """
    shardings = layout(tree, devices, shards)
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    return jax.jit(lambda leaves: leaves, out_shardings=shardings)(tree)


def layout(tree: PyTree, devices: Sequence[jax.Device], shards: int = 1) -> PyTree:
    """Where :func:`replicate` puts arrays, or arrays of these shapes."""
    mesh = _mesh(devices, shards)

    def lying(leaf: Array) -> NamedSharding:
        axes = [i for i, size in enumerate(jnp.shape(leaf)) if shards > 1 and size % shards == 0]
        spec = [*[None] * axes[-1], PARAMETERS] if axes else []
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(lying, tree)


def one_device(mean: Mean) -> Mean:
    """The mean of all items on one device."""
    return mean


def by_shard_map(devices: Sequence[jax.Device], shards: int = 1) -> Spread:
    """Spreads means over devices by ``jax.shard_map``, also over those of other processes.

    Each device takes an equal share of the items, the last ones filled up with copies that weigh 0.
    What the devices compute is added in one reduction: to rounding, that is what one device
    computes from all.

    Args:
      devices: where to run; a single one leaves the mean as it is.
      shards: devices of a group that computes each task together, from parameters that
        :func:`replicate` cut over it; XLA sees to what they tell each other.

    Returns:
      Makes one of a :data:`Mean` that sees one share; its means come to every device.
    """

    def over(run: Mean) -> Mean:
        common, cut_up = PartitionSpec(), PartitionSpec(TASKS)

        def on_one(common: PyTree, *shares: PyTree) -> PyTree:
            # A shard keeps the axis that pmap takes away.
            return run(common, *jax.tree.map(lambda leaf: leaf[0], shares))

        # Unchecked: the check would have every primitive say over which devices values differ.
        return jax.shard_map(
            on_one,
            mesh=_mesh(devices, shards),
            in_specs=(common, cut_up, cut_up),
            out_specs=common,
            axis_names={TASKS},
            check_vma=False,
        )

    return lambda mean: _spread(mean, over, len(devices) // shards)


def by_pmap(devices: Sequence[jax.Device]) -> Spread:
    """As :func:`by_shard_map`, by ``jax.pmap``, over the devices of one process.

    Raises:
      ValueError: there are several processes.
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"pmap spreads over the devices of one process and there are {jax.process_count()}: "
            "take by_shard_map."
        )

    def over(run: Mean) -> Mean:
        return jax.pmap(run, TASKS, in_axes=(None, 0, 0), out_axes=None, devices=list(devices))

    return lambda mean: _spread(mean, over, len(devices))


def _mesh(devices: Sequence[jax.Device], shards: int) -> Mesh:
    """The devices as one axis of tasks, or as that and one of parameters.

    Raises:
      ValueError: they cannot be grouped so.
    """
    if shards == 1:
        return Mesh(np.array(devices), (TASKS,))
    if len(devices) % shards:
        raise ValueError(
            f"{len(devices)} devices cannot be grouped by {shards} shards: give a divisor."
        )
    return Mesh(np.array(devices).reshape(-1, shards), (TASKS, PARAMETERS))


def _spread(mean: Mean, over: Callable[[Mean], Mean], count: int) -> Mean:
    """Cuts items into shares, and adds up what comes of them.

    Args:
      mean: over one share.
      over: maps a function over shares ``[count, ...]`` given as its second and third argument.
      count: of shares.
    """
    if count == 1:
        return one_device(mean)

    def share(common: PyTree, items: PyTree, weights: Array | None) -> PyTree:
        add = jax.lax.pmean if weights is None else jax.lax.psum
        return add(mean(common, items, weights), TASKS)

    mapped = over(share)
    return lambda common, items, weights: mapped(common, *cut(items, count, weights))


def over_devices(gradient: Gradient, spread: Spread) -> Gradient:
    """Spreads the gradient of a batch that is at hand; the outer loop draws its own on each device.

    Args:
      gradient: an estimator, as on one device.
      spread: as in ``by_shard_map(jax.devices())``.

    Returns:
      An estimator of the same signature and, to rounding, the same values.
    """
    mean = spread(
        lambda common, items, weights: gradient(
            common[0], common[1], items[0], items[1], *given(weights)
        )
    )
    return lambda params, state, batch, keys, weights=None: mean(
        (params, state), (batch, keys), weights
    )


def map_over_devices(
    function: Callable[[PyTree, PyTree], Array], devices: Sequence[jax.Device], shards: int = 1
) -> Callable[[PyTree, PyTree], Array]:
    """Spreads ``(common, items [n, ...]) -> values [n, ...]``; all values come to every device."""
    if len(devices) == 1:
        return function
    common, cut_up = PartitionSpec(), PartitionSpec(TASKS)

    def share(common: PyTree, items: PyTree) -> Array:
        return gather(function(common, jax.tree.map(lambda leaf: leaf[0], items)))

    mapped = jax.shard_map(
        share,
        mesh=_mesh(devices, shards),
        in_specs=(common, cut_up),
        out_specs=common,
        axis_names={TASKS},
        check_vma=False,
    )

    def spread(common: PyTree, items: PyTree) -> Array:
        total = jax.tree.leaves(items)[0].shape[0]
        return mapped(common, cut(items, len(devices) // shards)[0])[:total]

    return spread


def places(tasks: int, devices: Sequence[jax.Device], shards: int = 1) -> np.ndarray:
    """Which of the tasks of a step this process's devices take, in order, copies included."""
    each = -(-tasks // (len(devices) // shards))
    own = jax.process_index()
    here = sorted({i // shards for i, device in enumerate(devices) if device.process_index == own})
    return np.minimum(np.add.outer(each * np.array(here), np.arange(each)).reshape(-1), tasks - 1)


def put(items: PyTree, tasks: int, devices: Sequence[jax.Device], shards: int = 1) -> PyTree:
    """Puts what each process has of :func:`places` ``[k, ...]`` where it is computed with.

    Returns:
      Arrays of the items of all processes, one share after another.
    """
    groups = len(devices) // shards
    over, filled = NamedSharding(_mesh(devices, shards), PartitionSpec(TASKS)), -(-tasks // groups)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_process_local_data(
            over, leaf, (groups * filled, *leaf.shape[1:])
        ),
        items,
    )


def gather(items: PyTree) -> PyTree:
    """The items of all devices, ``[k, ...] -> [devices * k, ...]``, for a loss that needs them all.

    To be called within a function that is spread over devices, on weights too where they are given:
    items that weigh 0 are copies, and no examples of anything. The derivative brings to each item
    what the losses of all devices have to do with it. Only what is computed at a time is gathered,
    so such an objective wants ``mean_gradient(objective, chunk=k)`` with all of a device's share.
    """
    return jax.lax.all_gather(items, TASKS, tiled=True)
