"""Spreading tasks over devices, including those of other processes: the only file that does."""

import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmeta.distributed.microbatches import Mapped, Spread, divide, join, one_device, pad
from jaxmeta.types import Array, PyTree

TASKS = "tasks"
"""The name of the axis of devices over which tasks are spread."""
PARAMETERS = "parameters"
"""The name of the axis over which parameters are sharded, if they do not fit on one device."""
SPREADS = ("shard_map", "pmap")
"""The ways to spread tasks over devices, by name; see :func:`spread_by`."""


def use_cores() -> None:
    """Makes every core of a CPU a device, so that each computes its own tasks.

    Two cores that share one task wait for each other after every operation; with separate tasks
    they need not. Call it before jax computes anything. It does not change a number of CPU devices
    that is already set, and does not affect accelerators.

    Raises:
      RuntimeError: jax has already computed something.
    """
    chosen = jax.config.values["jax_num_cpu_devices"] > 0
    if not chosen and "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", cores())


def cores() -> int:
    """The cores that this process may use."""
    # Not every system can tell which cores those are.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices_for(tasks: int) -> list[jax.Device]:
    """The devices to share this number of tasks: those that would get at least one.

    With several processes it is all devices, as every process has to take part.
    """
    devices = jax.devices()
    if jax.process_count() > 1:
        return devices
    each = -(-tasks // len(devices))
    return devices[: -(-tasks // each)]


def replicate(tree: PyTree, devices: Sequence[jax.Device], shards: int = 1) -> PyTree:
    """Puts a copy on every device, or every group of devices, once instead of at each call.

    With several processes, each has to call it with the same values.

    Args:
      tree: arrays.
      devices: the devices to copy to.
      shards: number of devices in a group, over which each array is sharded along the last axis
        that this number divides; an array without such an axis is copied to all of them.

    >>> copies = replicate(jnp.ones(3), jax.devices())
    >>> copies.sharding.is_fully_replicated
    True
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


def layout_of_tasks(
    tree: PyTree, tasks: int, devices: Sequence[jax.Device], shards: int = 1
) -> PyTree:
    """Where :func:`by_shard_map` leaves per-task values, for this number of tasks."""
    even = tasks % (len(devices) // shards) == 0
    where = NamedSharding(_mesh(devices, shards), PartitionSpec(TASKS) if even else PartitionSpec())
    return jax.tree.map(lambda _: where, tree)


def by_shard_map(devices: Sequence[jax.Device], shards: int = 1) -> Spread:
    """Spreads tasks over devices by ``jax.shard_map``, including those of other processes.

    Each device takes an equal share of the items, where the last shares are padded with copies of
    weight 0. The sums are added in one reduction; per-task values stay on their device. Up to
    rounding, the result is what one device computes from all items.

    Args:
      devices: where to run; with a single one, the function is unchanged.
      shards: number of devices in a group that computes each task together, from parameters that
        :func:`replicate` sharded over the group; XLA takes care of their communication.

    Returns:
      A function that spreads another over the devices. Every device gets the sums.

    >>> def doubled(common, items, weights):
    ...     return jnp.sum(weights * items), 2 * items
    >>> spread_out = jax.jit(by_shard_map(jax.devices())(doubled))
    >>> total, per_task = spread_out((), jnp.arange(3.0), jnp.ones(3))
    >>> total.item(), per_task.tolist()
    (3.0, [0.0, 2.0, 4.0])
    """
    mesh, everywhere, by_task = _mesh(devices, shards), PartitionSpec(), PartitionSpec(TASKS)
    count = len(devices) // shards
    if count == 1:
        return one_device

    def spread(mapped: Mapped) -> Mapped:
        def share(common: PyTree, items: PyTree, weights: Array) -> tuple[PyTree, PyTree]:
            sums, per_task = mapped(common, items, weights)
            return jax.lax.psum(sums, TASKS), per_task

        # Unchecked: the check would need every primitive to say over which devices values differ.
        on_all = jax.shard_map(
            share,
            mesh=mesh,
            in_specs=(everywhere, by_task, by_task),
            out_specs=(everywhere, by_task),
            axis_names={TASKS},
            check_vma=False,
        )

        def spread_out(common: PyTree, items: PyTree, weights: Array) -> tuple[PyTree, PyTree]:
            sums, per_task = on_all(common, *pad(items, weights, count))
            if weights.shape[0] % count == 0:
                return sums, per_task
            # Arrays that do not divide evenly are whole on each device, as in layout_of_tasks.
            whole = NamedSharding(mesh, everywhere)
            per_task = jax.tree.map(lambda leaf: leaf[: weights.shape[0]], per_task)
            return sums, jax.lax.with_sharding_constraint(per_task, whole)

        return spread_out

    return spread


def by_pmap(devices: Sequence[jax.Device]) -> Spread:
    """Spreads tasks over devices by ``jax.pmap``; otherwise like :func:`by_shard_map`.

    Args:
      devices: where to run; all are devices of this process.

    Raises:
      ValueError: there are other processes.

    >>> def doubled(common, items, weights):
    ...     return jnp.sum(weights * items), 2 * items
    >>> total, per_task = by_pmap(jax.devices())(doubled)((), jnp.arange(3.0), jnp.ones(3))
    >>> total.item(), per_task.tolist()
    (3.0, [0.0, 2.0, 4.0])
    """
    if jax.process_count() > 1:
        raise ValueError(
            f"pmap spreads over the devices of one process and there are {jax.process_count()}: "
            "take by_shard_map."
        )
    count = len(devices)
    if count == 1:
        return one_device

    def spread(mapped: Mapped) -> Mapped:
        def share(common: PyTree, items: PyTree, weights: Array) -> tuple[PyTree, PyTree]:
            sums, per_task = mapped(common, items, weights)
            return jax.lax.psum(sums, TASKS), per_task

        on_all = jax.pmap(
            share, TASKS, in_axes=(None, 0, 0), out_axes=(None, 0), devices=list(devices)
        )

        def spread_out(common: PyTree, items: PyTree, weights: Array) -> tuple[PyTree, PyTree]:
            padded = pad(items, weights, count)
            shares = jax.tree.map(lambda leaf: divide(leaf, count), padded)
            sums, per_task = on_all(common, *shares)
            return sums, jax.tree.map(lambda leaf: join(leaf)[: weights.shape[0]], per_task)

        return spread_out

    return spread


def spread_by(name: str, devices: Sequence[jax.Device], shards: int = 1) -> Spread:
    """Spreads tasks over devices in the named way.

    Args:
      name: one of :data:`SPREADS`.
      devices: where to run.
      shards: number of devices in a group, as for :func:`by_shard_map`; 1 for pmap.

    Raises:
      ValueError: there is no such way, or pmap is given several shards or other processes.

    >>> spread_by("shard_map", jax.devices()[:1]) is one_device
    True
    """
    if name not in SPREADS or (name == "pmap" and shards > 1):
        raise ValueError(
            f"spread is {name!r} and parameter_shards {shards}: choose one of "
            f"{', '.join(SPREADS)}, and more than one shard with shard_map only."
        )
    return by_pmap(devices) if name == "pmap" else by_shard_map(devices, shards)


def _mesh(devices: Sequence[jax.Device], shards: int) -> Mesh:
    """The devices as one axis of tasks, or as an axis of tasks and one of parameters.

    Raises:
      ValueError: the devices cannot be grouped by ``shards``.
    """
    if shards == 1:
        return Mesh(np.array(devices), (TASKS,))
    if len(devices) % shards:
        raise ValueError(
            f"{len(devices)} devices cannot be grouped by {shards} shards: give a divisor."
        )
    return Mesh(np.array(devices).reshape(-1, shards), (TASKS, PARAMETERS))


def local_tasks(tasks: int, devices: Sequence[jax.Device], shards: int = 1) -> np.ndarray:
    """Which tasks of a step this process's devices take, in order, including padding copies."""
    each = -(-tasks // (len(devices) // shards))
    own = jax.process_index()
    here = sorted({i // shards for i, device in enumerate(devices) if device.process_index == own})
    return np.minimum(np.add.outer(each * np.array(here), np.arange(each)).reshape(-1), tasks - 1)


def to_global_array(
    items: PyTree, tasks: int, devices: Sequence[jax.Device], shards: int = 1
) -> PyTree:
    """Puts each process's :func:`local_tasks` ``[k, ...]`` on the devices that compute them.

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
