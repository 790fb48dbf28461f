"""A classifier of a labeled domain whose features are drawn closer to those of an unlabeled one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.objectives import running_average
from jaxmeta.types import Array, Batch, Key, Metrics, Model, Objective, PyTree, Report


class Domain(NamedTuple):
    """What a network makes of the examples of one domain.

    Attributes:
      features: outputs of the encoder ``[n, d]``.
      logits: outputs of the classifier ``[n, classes]``; ``[n, 0]`` if there is none.
      mask: ``[n]``.
    """

    features: Array
    logits: Array
    mask: Array


Penalty = Callable[[PyTree, Domain, Domain, Array, Key], tuple[Array, Metrics]]
"""``(params, source, target, progress, key) -> (loss, metrics)``; progress goes from 0 to 1."""


def aligned(
    model: Model,
    head: Model | None,
    penalty: Penalty,
    parts: Callable[[Key, Domain], dict[str, PyTree]] | None = None,
    *,
    weight: float = 1.0,
    steps: int | None = None,
    statistics: str = "together",
    decay: float = 0.9,
) -> Objective:
    r"""The loss of the source's labels, and a penalty on how its features differ from the target's.

    .. math:: -\operatorname*{mean}_{i \in S} \log \mathrm{softmax}(h(f(x_i)))_{y_i}
              + w\, \ell\big(f(S), f(T)\big)

    The labels of the target are never read.

    Args:
      model: the encoder f, ``[n, ...]`` to ``[n, d]``.
      head: the classifier h on its features; ``None`` for the penalty alone, to be added to
        another loss by :func:`jaxmeta.objectives.added`.
      penalty: the loss of the features of both domains.
      parts: ``(key, domain) -> params``, the parameters of the penalty by name, if it has any.
      weight: w.
      steps: outer steps of the run, over which the progress that ``penalty`` is given goes from 0
        to 1; ``None`` for 1 from the start.
      statistics: ``"together"``, both domains are normalized by the statistics of their union; or
        ``"apart"``, each by its own, and the running averages are the target's.
      decay: decay of the running averages; see :func:`jaxmeta.objectives.running_average`.

    Returns:
      An objective over ``{"source": Batch, "target": Batch}``, as drawn by
      :func:`jaxmeta.data.domain_shift`. Its parameters are ``{"model", "head"}`` and the penalty's,
      its state is ``{"model", "head", "step"}``. It reports the ``accuracy`` on the source, the
      ``penalty`` and the penalty's metrics.

    Raises:
      ValueError: ``statistics`` is neither, ``weight`` is negative, ``decay`` is outside [0, 1] or,
        when called, the task does not hold two batches.
    """
    if statistics not in ("together", "apart"):
        raise ValueError(f"statistics is {statistics!r}: choose 'together' or 'apart'.")
    if not weight >= 0:
        raise ValueError(f"weight is {weight}: give a number of 0 or more.")
    if steps is not None:
        check_count("steps", steps, least=1)
    average = running_average(decay)

    def embed(
        params: PyTree, state: PyTree, x: PyTree, mask: Array, key: Key
    ) -> tuple[Domain, PyTree]:
        model_key, head_key = jax.random.split(key)
        features, used = model.apply(params["model"], state["model"], x, mask, model_key)
        if head is None:
            none = jnp.zeros((len(features), 0), features.dtype)
            return Domain(features, none, mask), {"model": used}
        logits, of_head = head.apply(params["head"], state["head"], features, mask, head_key)
        return Domain(features, logits, mask), {"model": used, "head": of_head}

    def init(key: Key, task: Any) -> tuple[PyTree, PyTree]:
        source, _ = domains_of(task)
        model_key, head_key, noise_key, own_key = jax.random.split(key, 4)
        params: dict[str, Any] = {}
        state: dict[str, Any] = {"step": jnp.int32(0)}
        params["model"], state["model"] = model.init(model_key, source.x)
        if head is not None:
            features, _ = model.apply(params["model"], state["model"], source.x, source.mask)
            params["head"], state["head"] = head.init(head_key, features)
        domain, _ = embed(params, state, source.x, source.mask, noise_key)
        return {**params, **(parts(own_key, domain) if parts else {})}, state

    def loss(params: PyTree, state: PyTree, task: Any, key: Key) -> tuple[Array, Report]:
        source, target = domains_of(task)
        *keys, penalty_key = jax.random.split(key, 3)
        if statistics == "apart":
            here, _ = embed(params, state, source.x, source.mask, keys[0])
            there, used = embed(params, state, target.x, target.mask, keys[1])
        else:
            count = source.mask.size
            x, mask = jax.tree.map(
                lambda a, b: jnp.concatenate([a, b]),
                (source.x, source.mask),
                (target.x, target.mask),
            )
            both, used = embed(params, state, x, mask, keys[0])
            here = jax.tree.map(lambda leaf: leaf[:count], both)
            there = jax.tree.map(lambda leaf: leaf[count:], both)
        progress = jnp.float32(1)
        if steps is not None:
            progress = jnp.minimum(state["step"].astype(jnp.float32) / steps, 1)
        value, metrics = penalty(params, here, there, progress, penalty_key)
        metrics = {"penalty": value, **metrics}
        value *= weight
        if head is not None:
            value += cross_entropy(here.logits, source.y, source.mask)
            metrics["accuracy"] = accuracy(here.logits, source.y, source.mask)
        return value, Report(used, metrics)

    def update(state: PyTree, params: PyTree, used: PyTree) -> PyTree:
        averaged = {name: state[name] for name in used}
        return {**average(averaged, params, used), "step": state["step"] + 1}

    return Objective(init, loss, update)


def domains_of(task: Any) -> tuple[Batch, Batch]:
    """The batches of the source and of the target; raises ``ValueError`` if there are none."""
    if not isinstance(task, dict) or not all(
        isinstance(task.get(name), Batch) for name in ("source", "target")
    ):
        kind = type(task).__name__
        raise ValueError(
            f"The objective is of a batch of each of two domains and the task is a {kind}: draw it "
            "by paired({'source': ..., 'target': ...}), or from jaxmeta.data.domain_shift."
        )
    return task["source"], task["target"]


def check_domains(source: Array, target: Array, source_mask: Array, target_mask: Array) -> None:
    """Raises ``ValueError`` unless features are ``[n, d]`` and ``[m, d]``, with their masks."""
    shapes = [jnp.shape(array) for array in (source, target, source_mask, target_mask)]
    first, second, *masks = shapes
    fitting = len(first) == len(second) == 2 and first[1] == second[1]
    if not fitting or masks != [first[:1], second[:1]]:
        raise ValueError(
            f"Features have shapes {first} and {second} and their masks {masks[0]} and {masks[1]}: "
            "give features [n, d] and [m, d], and masks [n] and [m]."
        )
