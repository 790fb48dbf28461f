"""Spreading the tasks of a meta-batch over devices: the only file that spreads work over them."""

import os
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmeta.gradients import Gradient
from jaxmeta.types import Array, Aux, Key, PyTree


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


def sharing(tasks: int, chunk: int | None = None) -> list[jax.Device]:
    """The devices that can share so many tasks equally, in whole chunks: as many as can be.

    Args:
      tasks: of a step.
      chunk: how many a device computes at a time, when that is fixed.
    """
    devices = jax.devices()
    count = max(
        count
        for count in range(1, len(devices) + 1)
        if tasks % count == 0 and (chunk is None or tasks // count % chunk == 0)
    )
    return devices[:count]


def replicate(tree: PyTree, devices: Sequence[jax.Device]) -> PyTree:
    """Puts a copy on every device, once, where each compiled call would have to."""
    everywhere = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec())
    return jax.device_put(tree, everywhere)


def map_over_devices(
    function: Callable[[PyTree, Array], Array], devices: Sequence[jax.Device]
) -> Callable[[PyTree, Array], Array]:
    """Cuts the items of ``(common, items [n]) -> values [n]`` into equal shares, one a device.

    Where the items do not go round, the last are computed twice and left out of the values.
    """
    if len(devices) == 1:
        return function
    mapped = jax.pmap(function, "devices", in_axes=(None, 0), devices=list(devices))

    def spread(common: PyTree, items: Array) -> Array:
        each = -(-items.size // len(devices))
        places = jnp.minimum(jnp.arange(each * len(devices)), items.size - 1)
        values = mapped(common, items[places].reshape(len(devices), each))
        return values.reshape(-1, *values.shape[2:])[: items.size]

    return spread


def over_devices(gradient: Gradient, devices: Sequence[jax.Device]) -> Gradient:
    """Computes a gradient on several devices, each taking an equal share of the tasks.

    Gradients, new state and metrics are means over tasks, so the mean over devices of what each
    computes from its share is what one device would compute from all.

    Args:
      gradient: the estimator, as on one device.
      devices: where to run; a single one leaves the estimator as it is.

    Returns:
      An estimator of the same signature and, to rounding, the same values.

    Raises:
      ValueError: when called, the tasks cannot be shared equally.
    """
    count = len(devices)
    if count == 1:
        return gradient

    def share(params: PyTree, state: PyTree, batch: PyTree, keys: Key) -> tuple[PyTree, Aux]:
        return jax.lax.pmean(gradient(params, state, batch, keys), "devices")

    mapped = jax.pmap(
        share, "devices", in_axes=(None, None, 0, 0), out_axes=None, devices=list(devices)
    )

    def spread(params: PyTree, state: PyTree, batch: PyTree, keys: Key) -> tuple[PyTree, Aux]:
        if keys.shape[0] % count:
            raise ValueError(
                f"{keys.shape[0]} tasks cannot be shared by {count} devices: choose a meta_batch "
                f"that is a multiple of {count}."
            )
        cut = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), (batch, keys))
        return mapped(params, state, *cut)

    return spread
