"""Spreading the tasks of a meta-batch over devices: the only file that knows of them."""

from collections.abc import Sequence

import jax

from jaxmeta.gradients import Gradient
from jaxmeta.types import Aux, Key, PyTree


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
