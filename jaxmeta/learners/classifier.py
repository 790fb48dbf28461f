"""Pre-training as a learner: a classifier of all base classes, which looks at no support set."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.learners.frames.heads import affine
from jaxmeta.learners.frames.support import check_normalization, cosine_similarities, look_at_query
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, Model, PyTree

_spread = jax.nn.initializers.glorot_normal()


def classifier(
    model: Model,
    classes: int,
    *,
    cosine: bool = False,
    temperature: float = 0.1,
    normalization: str = "transductive",
) -> Learner:
    r"""An embedding and a linear, or cosine, layer over all base classes: ordinary training.

    .. math:: z_k = w_k^\top f(x) + b_k \qquad \text{or} \qquad z_k = \cos(w_k, f(x)) / T

    Its episodes come from ``source.batches(size)``: a batch of examples, labeled by base class.
    What is kept of it is f, under ``"model"``, for the learners that transfer features.

    Args:
      model: an embedding f, ``[n, ...]`` to ``[n, d]``.
      classes: how many base classes there are.
      cosine: classify by cosine similarity.
      temperature: T, of the cosine.
      normalization: ``"transductive"`` (the batch's own statistics) or ``"running"``.

    Returns:
      A learner with parameters ``{"model": ..., "head": ...}``; adapting does nothing.

    Raises:
      ValueError: the normalization is ``"inductive"`` or unknown, there are no classes, or the
        temperature is not positive.

    References:
      Chen et al., 2019, A Closer Look at Few-shot Classification, section 3.2.
    """
    check_normalization(normalization)
    check_count("classes", classes, least=1)
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}: give a positive number.")
    if normalization == "inductive":
        raise ValueError(
            "normalization is 'inductive', but a classifier of base classes has no support set: "
            "choose 'transductive' or 'running'."
        )

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        model_key, head_key = jax.random.split(key)
        params, state = model.init(model_key, episode.query.x)
        embedded, _ = model.apply(params, state, episode.query.x)
        kernel = _spread(head_key, (embedded.shape[-1], classes), jnp.float32)
        head = {"kernel": kernel}
        if not cosine:
            head["bias"] = jnp.zeros(classes, jnp.float32)
        return {"model": params, "head": head}, state

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[None, Metrics]:
        return None, {}

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: None,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        embedded, state = look_at_query(
            model, normalization, params["model"], state, None, x, mask, key
        )
        if not cosine:
            return affine(params["head"], embedded), state
        return cosine_similarities(embedded, params["head"]["kernel"].T) / temperature, state

    return Learner(init, adapt, predict)
