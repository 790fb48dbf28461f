"""Hallucination: a generator enlarges the support set, and learns from the learner's queries."""

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.learners.frames.enlarged import check_features, enlarge
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Metrics, Model, PyTree

CODES = ("drawn", "learned", "zero")


def hallucinated(
    learner: Learner, generator: Model, extra: int, *, noise: int = 64, codes: str = "drawn"
) -> Learner:
    r"""Adds to a support set of features what a generator imagines of each example.

    .. math:: S' = S \cup \{(G(x, z_j),\, y) : (x, y) \in S,\; j = 1, \dots, M\},
              \qquad z_j \sim N(0, I)

    The learner adapts to :math:`S'`, and its loss on the queries trains the generator with it; no
    other loss says that imagined examples should look real. All examples have the same
    :math:`z_1, \dots, z_M`, so that their order does not matter. Padding and examples without a
    label are not imagined further.

    For a learner that only averages, such as prototypical networks, nothing of G matters but its
    mean: ask what is gained over ``codes="zero"``, a map without imagination.

    Args:
      learner: a learner of features ``[n, d]`` that the outer loop differentiates through, which
        ``logistic_regression`` is not.
      generator: from features followed by codes, ``[n, d + noise]``, to features ``[n, d]``,
        without a state, such as ``residual_mlp(codes=noise)``; see :func:`jaxmeta.nn.residual_mlp`.
      extra: M, imagined examples for each real one; with 0, the learner is returned as it is.
      noise: size of z.
      codes: ``"drawn"``, z is drawn for each task from the key of ``adapt``; ``"learned"``, the M
        codes are parameters; ``"zero"``, z is zero.

    Returns:
      A learner with the parameters of ``learner``, which are a dictionary, and ``"generator"``. The
      same parameters serve the learner alone.

    Raises:
      ValueError: a count is not valid, ``codes`` is none of the three, the inputs are not features,
        the learner has no parameters or the generator has a state or other outputs.

    References:
      Wang, Girshick, Hebert and Hariharan, 2018, Low-Shot Learning from Imaginary Data, section 4
      (where seeds are drawn from the support set until each class has a given number of examples).

    >>> from jaxmeta.learners import prototypical
    >>> from jaxmeta.nn import identity, residual_mlp
    >>> plain = prototypical(identity(), ways=5)
    >>> generator = residual_mlp(hidden=[256, 256], codes=64, nonnegative=True)
    >>> learner = hallucinated(plain, generator, extra=4, noise=64)
    """
    check_count("extra", extra)
    check_count("noise", noise, least=1)
    if codes not in CODES:
        raise ValueError(f"codes is {codes!r}: give 'drawn', 'learned' or 'zero'.")
    if extra == 0:
        return learner

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        x = episode.support.x
        check_features(x, "hallucinated")
        own_key, model_key, code_key = jax.random.split(key, 3)
        params, state = learner.init(own_key, episode)
        if not isinstance(params, dict):
            raise ValueError(
                f"The parameters of the learner are a {type(params).__name__}, and the generator's "
                "are added to a dictionary: give a learner that learns something."
            )
        drawn = jax.random.normal(code_key, (extra, noise), jnp.float32)
        zeros = jnp.zeros((x.shape[0], noise), x.dtype)
        own, kept = generator.init(model_key, jnp.concatenate([x, zeros], axis=1))
        if jax.tree.leaves(kept):
            raise ValueError(
                "The generator has a state, which a support set must not change: give one without "
                "batch normalization."
            )
        made = {"model": own} | ({"codes": drawn} if codes == "learned" else {})
        imagined = jax.eval_shape(imagine, made, x, key)
        if imagined.shape[2:] != x.shape[1:]:
            raise ValueError(
                f"The generator makes {imagined.shape[2:]} of features {x.shape[1:]} and {noise} "
                "codes: give one that makes as many features as it gets, as residual_mlp with "
                f"codes={noise}."
            )
        return {**params, "generator": made}, state

    def imagine(params: PyTree, x: Array, key: Key) -> Array:
        """``[extra, n, d]``."""
        if codes == "drawn":
            z = jax.random.normal(key, (extra, noise), jnp.float32)
        else:
            z = params["codes"] if codes == "learned" else jnp.zeros((extra, noise), jnp.float32)
        every = jnp.broadcast_to(z[:, None].astype(x.dtype), (extra, x.shape[0], noise))
        seeds = jnp.broadcast_to(x[None], (extra, *x.shape))
        both = jnp.concatenate([seeds, every], axis=2)
        outputs, _ = generator.apply(params["model"], {}, both.reshape(-1, both.shape[2]))
        return outputs.reshape(extra, x.shape[0], *outputs.shape[1:])

    def enlarged(params: PyTree, support: Batch, key: Key) -> tuple[Batch, Key]:
        check_features(support.x, "hallucinated")
        code_key, key = jax.random.split(key)
        return enlarge(support, imagine(params["generator"], support.x, code_key)), key

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[PyTree, Metrics]:
        return learner.adapt(params, state, *enlarged(params, support, key))

    walk = learner.path
    if walk is None:
        return Learner(init, adapt, learner.predict)

    def path(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[PyTree, Metrics]:
        return walk(params, state, *enlarged(params, support, key))

    return Learner(init, adapt, learner.predict, path)
