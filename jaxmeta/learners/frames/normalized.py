"""Which statistics normalize the support set and the queries."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from jaxmeta.types import Array, Batch, Key, Model, PyTree

MODES = ("transductive", "inductive", "running")


class Normalized(NamedTuple):
    """A model with a fixed choice of the statistics that it normalizes with.

    Attributes:
      init: the model's, ``(key, x) -> (params, state)``.
      on_support: ``(params, state, support, key=None) -> (outputs, kept)``, where ``kept`` is what
        the queries will need from the support set: its statistics if the mode is ``"inductive"``,
        and otherwise ``()``.
      statistics: ``(params, state, support) -> kept``, for use when no outputs are needed.
      on_query: ``(params, state, kept, x, mask=None, key=None) -> (outputs, state)``, where the new
        state holds the statistics that were used.
    """

    init: Callable[[Key, PyTree], tuple[PyTree, PyTree]]
    on_support: "OnSupport"
    statistics: Callable[[PyTree, PyTree, Batch], PyTree]
    on_query: "OnQuery"


class OnSupport(Protocol):
    """The forward pass on a support set."""

    def __call__(
        self, params: PyTree, state: PyTree, support: Batch, key: Key | None = None
    ) -> tuple[Array, PyTree]:
        """Returns the outputs and what the queries will need; see :class:`Normalized`."""


class OnQuery(Protocol):
    """The forward pass on queries."""

    def __call__(
        self,
        params: PyTree,
        state: PyTree,
        kept: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        """Returns the outputs and the new state; see :class:`Normalized`."""


def normalized(model: Model, mode: str) -> Normalized:
    """Fixes which statistics a model normalizes its inputs with.

    - ``"transductive"``: support set and queries each with their own statistics.
    - ``"inductive"``: both with the support set's, so that each query is predicted independently.
    - ``"running"``: both with the running averages in ``state``.

    Args:
      model: a model.
      mode: one of the three.

    Returns:
      The forward passes on support sets and on queries.

    Raises:
      ValueError: the mode is none of the three.

    >>> import jax, jax.numpy as jnp
    >>> from jaxmeta.nn import conv4
    >>> model = normalized(conv4(filters=4), "inductive")
    >>> support = Batch(jnp.ones((2, 16, 16, 1)), jnp.arange(2), jnp.ones(2))
    >>> params, state = jax.eval_shape(model.init, jax.random.key(0), support.x)
    >>> _, kept = jax.eval_shape(model.on_support, params, state, support)
    >>> kept.keys() == state.keys()  # the statistics of the support set, for the queries
    True
    """
    if mode not in MODES:
        raise ValueError(
            f"normalization must be 'transductive', 'inductive' or 'running', but is {mode!r}."
        )

    def on_support(
        params: PyTree, state: PyTree, support: Batch, key: Key | None = None
    ) -> tuple[Array, PyTree]:
        own = mode != "running"
        outputs, used = model.apply(params, state, support.x, support.mask, key, own)
        return outputs, used if mode == "inductive" else ()

    def statistics(params: PyTree, state: PyTree, support: Batch) -> PyTree:
        return on_support(params, state, support)[1] if mode == "inductive" else ()

    def on_query(
        params: PyTree,
        state: PyTree,
        kept: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        used = kept if mode == "inductive" else state
        return model.apply(params, used, x, mask, key, mode == "transductive")

    return Normalized(model.init, on_support, statistics, on_query)
