"""Supervised pretraining: a classifier of all base classes."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count, check_positive
from jaxmeta.learners.frames.heads import affine
from jaxmeta.learners.frames.support import cosine_similarities
from jaxmeta.losses import accuracy, cross_entropy
from jaxmeta.objectives.averages import running_average
from jaxmeta.types import Array, Batch, Key, Model, Objective, PyTree, Report


def supervised(
    model: Model,
    classes: int,
    *,
    cosine: bool = False,
    temperature: float = 0.1,
    decay: float = 0.9,
) -> Objective:
    r"""The cross-entropy of an embedding with a linear or cosine layer over all base classes.

    .. math:: z_k = w_k^\top f(x) + b_k \qquad \text{or} \qquad z_k = \cos(w_k, f(x)) / T

    Only f is kept, under ``"model"``, where every learner that transfers features looks for it.

    Args:
      model: an embedding f, ``[n, ...]`` to ``[n, d]``, normalized by the statistics of its batch.
      classes: number of base classes.
      cosine: classify by cosine similarity.
      temperature: T, temperature of the cosine classifier.
      decay: decay of the running averages of the model's statistics; see
        :func:`jaxmeta.objectives.running_average`.

    Returns:
      An objective over the batches that ``source.batches(size)`` draws, with parameters
      ``{"model": ..., "head": ...}``. It reports ``accuracy``.

    Raises:
      ValueError: there are no classes, the temperature is not positive, or ``decay`` is outside
        [0, 1].

    References:
      Chen et al., 2019, A Closer Look at Few-shot Classification, section 3.2.

    >>> from jaxmeta.nn import mlp
    >>> batch = Batch(jnp.ones((4, 6)), jnp.array([0, 1, 2, 0]), jnp.ones(4))
    >>> objective = supervised(mlp(8), classes=3)
    >>> params, state = objective.init(jax.random.key(0), batch)
    >>> params["head"]["kernel"].shape
    (8, 3)
    """
    check_count("classes", classes, least=1)
    check_positive("temperature", temperature)

    def init(key: Key, batch: Batch) -> tuple[PyTree, PyTree]:
        if not isinstance(batch, Batch):
            raise ValueError(
                f"supervised is an objective of batches and the task is a {type(batch).__name__}: "
                "draw it by source.batches, in a config by sample = {'batches': 64}."
            )
        model_key, head_key = jax.random.split(key)
        params, state = model.init(model_key, batch.x)
        features = jax.eval_shape(lambda: model.apply(params, state, batch.x)[0]).shape[-1]
        head = {"kernel": _glorot(head_key, (features, classes), jnp.float32)}
        if not cosine:
            head["bias"] = jnp.zeros(classes, jnp.float32)
        return {"model": params, "head": head}, state

    def loss(params: PyTree, state: PyTree, batch: Batch, key: Key) -> tuple[Array, Report]:
        features, statistics = model.apply(params["model"], state, batch.x, batch.mask, key)
        if cosine:
            logits = cosine_similarities(features, params["head"]["kernel"].T) / temperature
        else:
            logits = affine(params["head"], features)
        value = cross_entropy(logits, batch.y, batch.mask)
        return value, Report(statistics, {"accuracy": accuracy(logits, batch.y, batch.mask)})

    return Objective(init, loss, running_average(decay))


_glorot = jax.nn.initializers.glorot_normal()
