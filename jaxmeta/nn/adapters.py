"""Models from elsewhere: flax linen, flax nnx, or two functions of your own."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
from flax import linen, nnx

from jaxmeta.types import Array, Key, Model, PyTree


def from_functions(
    init: Callable[[Key, PyTree], PyTree], apply: Callable[[PyTree, PyTree], Array]
) -> Model:
    """Makes a model from ``init(key, x) -> params`` and ``apply(params, x) -> outputs``; no state.

    >>> slope = from_functions(
    ...     init=lambda key, x: jax.random.normal(key, (x.shape[-1], 1)),
    ...     apply=lambda params, x: x @ params,
    ... )
    >>> params, state = slope.init(jax.random.key(0), jax.numpy.ones((4, 3)))
    >>> slope.apply(params, state, jax.numpy.ones((4, 3)))[0].shape
    (4, 1)
    """

    def stateless_apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        return apply(params, x), state

    return Model(lambda key, x: (init(key, x), {}), stateless_apply)


def from_linen(module: linen.Module) -> Model:
    """Makes a model from a flax linen module called as ``module(x)``.

    Every ``linen.BatchNorm`` inside is told which statistics to use, sees the mask, and returns the
    statistics of its batch (averaging over steps is done once, outside); every ``linen.Dropout`` is
    active if a key is given. The module thus needs no ``train`` argument; if its ``__call__`` has
    one, it is passed ``batch_statistics``.

    Args:
      module: maps ``[n, ...]`` to ``[n, ...]``. Only its ``params`` and ``batch_stats`` collections
        are carried.

    Returns:
      The model; its parameters are the ``params`` collection, its state ``batch_stats``.

    >>> model = from_linen(linen.Sequential([linen.Dense(8), linen.relu, linen.Dense(3)]))
    >>> params, state = model.init(jax.random.key(0), jax.numpy.ones((4, 6)))
    >>> model.apply(params, state, jax.numpy.ones((4, 6)))[0].shape
    (4, 3)
    """
    takes_train = "train" in inspect.signature(module.__call__).parameters

    def switched(mask: Array | None, key: Key | None, batch_statistics: bool) -> Any:
        def intercept(next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            inner = context.module
            if context.method_name == "__call__" and isinstance(inner, linen.BatchNorm):
                # Bound modules are throw-away copies, so setting their fields affects nothing else.
                object.__setattr__(inner, "momentum", 0.0)
                object.__setattr__(inner, "use_running_average", not batch_statistics)
                return next_call(args[0], mask=_spread(mask, args[0]))
            if context.method_name == "__call__" and isinstance(inner, linen.Dropout):
                object.__setattr__(inner, "deterministic", key is None)
                return next_call(args[0])
            return next_call(*args, **kwargs)

        return linen.intercept_methods(intercept)

    def init(key: Key, x: PyTree) -> tuple[PyTree, PyTree]:
        options: dict[str, Any] = {"train": True} if takes_train else {}
        with switched(None, None, True):
            variables = module.init(key, x, **options)
        return variables["params"], variables.get("batch_stats", {})

    def apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        options: dict[str, Any] = {"train": batch_statistics} if takes_train else {}
        rngs = {} if key is None else {"dropout": key}
        variables = {"params": params, "batch_stats": state}
        with switched(mask, key, batch_statistics):
            outputs, updated = module.apply(
                variables, x, **options, rngs=rngs, mutable=["batch_stats"]
            )
        return outputs, updated.get("batch_stats", state)

    return Model(init, apply)


def from_nnx(make: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """Makes a model from a flax nnx module called as ``module(x)``.

    ``nnx.BatchNorm`` and ``nnx.Dropout`` are switched, and see the mask, as in :func:`from_linen`.

    Args:
      make: builds the module, ``rngs -> module``; called once abstractly here, and by ``init``.

    Returns:
      The model; its parameters are the ``nnx.Param`` state as a pure dictionary, its state the
      ``nnx.BatchStat`` state.

    Raises:
      ValueError: the module has variables of other kinds, which nothing would carry.

    >>> model = from_nnx(lambda rngs: nnx.Linear(6, 3, rngs=rngs))
    >>> params, state = model.init(jax.random.key(0), jax.numpy.ones((4, 6)))
    >>> model.apply(params, state, jax.numpy.ones((4, 6)))[0].shape
    (4, 3)
    """
    abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    for _, inner in nnx.iter_graph(abstract):
        if isinstance(inner, nnx.BatchNorm):
            inner.momentum = 0.0
    kinds = (nnx.Param, nnx.BatchStat, nnx.RngState)
    others = {
        type(inner).__name__
        for _, inner in nnx.iter_graph(abstract)
        if isinstance(inner, nnx.Variable) and not isinstance(inner, kinds)
    }
    if others:
        raise ValueError(
            f"The module has variables of the kind {', '.join(sorted(others))}, which nothing "
            "would carry: make them nnx.Param or nnx.BatchStat."
        )
    # mypy's view of nnx.split does not count the filters of a tuple.
    split: Any = nnx.split
    graph, *abstract_states = split(abstract, *kinds)

    def init(key: Key, x: PyTree) -> tuple[PyTree, PyTree]:
        _, params, statistics, _ = split(make(nnx.Rngs(key)), *kinds)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(statistics)

    def apply(
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        streams = _random_streams(
            nnx.to_pure_dict(abstract_states[2]), jax.random.key(0) if key is None else key
        )
        filled = [
            _filled(abstract_state, values)
            for abstract_state, values in zip(
                abstract_states, (params, state, streams), strict=True
            )
        ]
        module = nnx.merge(graph, *filled)

        class Masked(nnx.BatchNorm):
            def __call__(self, x: Any, *_: Any, **__: Any) -> Any:
                return super().__call__(x, not batch_statistics, mask=_spread(mask, x))

        for _, inner in nnx.iter_graph(module):
            if isinstance(inner, nnx.BatchNorm):
                # The merged module is a throw-away copy: no other module's class changes.
                inner.__class__ = Masked
            elif isinstance(inner, nnx.Dropout):
                inner.deterministic = key is None
        outputs = module(x)
        return outputs, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))

    return Model(init, apply)


def _spread(mask: Array | None, x: Array) -> Array | None:
    """The mask ``[n]`` as boolean ``[n, 1, ...]``, of the rank of ``x``."""
    return None if mask is None else mask.reshape((-1,) + (1,) * (x.ndim - 1)) > 0


def _random_streams(abstract: PyTree, key: Key) -> PyTree:
    """Every stream of a module starts from its own key, with its counter at zero."""
    leaves, tree = jax.tree.flatten(abstract)
    fresh = [
        jax.random.fold_in(key, i)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jax.numpy.zeros(leaf.shape, leaf.dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, fresh)


def _filled(abstract: Any, values: PyTree) -> Any:
    state = jax.tree.map(lambda leaf: leaf, abstract)
    nnx.replace_by_pure_dict(state, values)
    return state
