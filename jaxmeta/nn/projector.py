"""The networks on top of an encoder that self-supervised losses use, discarded after training."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count, check_sizes
from jaxmeta.nn.layers import Statistics, batch_norm, dense, init_dense
from jaxmeta.types import Array, Key, Model, PyTree


def projector(outputs: int, hidden: Sequence[int] = (512,), *, normalized: bool = False) -> Model:
    r"""Linear layers with batch normalization and ReLU after each but the last.

    .. math:: g(x) = W_L\, \sigma(\mathrm{BN}(W_{L-1} \cdots \sigma(\mathrm{BN}(W_1 x)))) + b_L

    A loss that asks for the same outputs however an image is augmented makes the last layers forget
    what augmentation changes. With a projector on top, the encoder need not. The predictor of BYOL
    and SimSiam is a network of the same form.

    Args:
      outputs: size of the last layer.
      hidden: sizes of the layers before it.
      normalized: normalize the outputs as well, without scale and offset, as SimSiam does.

    Returns:
      A model from features ``[n, d]`` to ``[n, outputs]``. Its parameters are those of layers
      ``"layer0"``, ..., ``"head"``, of which the last has a kernel and a bias, and the others a
      kernel, a scale and an offset, as the normalization would subtract a bias again. Its state has
      the statistics of the normalized layers, under the same names.

    Raises:
      ValueError: a layer's size is not a positive integer or, from ``init``, the inputs are not
        ``[n, d]``.

    References:
      Chen et al., 2020, A Simple Framework for Contrastive Learning of Visual Representations,
      section 4.2; Grill et al., 2020, Bootstrap Your Own Latent, section 3.3; Chen and He, 2021,
      Exploring Simple Siamese Representation Learning, section 3.

    >>> model, features = projector(16, hidden=[32]), jnp.ones((4, 8))
    >>> params, state = model.init(jax.random.key(0), features)
    >>> model.apply(params, state, features)[0].shape
    (4, 16)
    """
    check_sizes(hidden)
    check_count("A layer's size", outputs, least=1)
    names = [f"layer{i}" for i in range(len(hidden))]

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        if x.ndim != 2:
            raise ValueError(
                f"A projector takes features [n, d] and got shape {x.shape}: give it an encoder "
                "without a head that flattens its maps."
            )
        keys = jax.random.split(key, len(names) + 1)
        sizes = [x.shape[1], *hidden, outputs]
        params, state = {}, {}
        for name, each, inputs, width in zip(names, keys[:-1], sizes, hidden, strict=False):
            params[name] = {
                "kernel": init_dense(each, inputs, width)["kernel"],
                "scale": jnp.ones(width, jnp.float32),
                "offset": jnp.zeros(width, jnp.float32),
            }
            state[name] = _untrained(width)
        params["head"] = init_dense(keys[-1], sizes[-2], outputs)
        if normalized:
            del params["head"]["bias"]
            state["head"] = _untrained(outputs)
        return params, state

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        used = {}
        for name in names:
            layer = params[name]
            x, used[name] = batch_norm(
                dense({"kernel": layer["kernel"]}, x),
                layer["scale"],
                layer["offset"],
                state[name],
                mask,
                batch_statistics,
            )
            x = jax.nn.relu(x)
        x = dense(params["head"], x)
        if normalized:
            one, zero = jnp.ones(outputs, x.dtype), jnp.zeros(outputs, x.dtype)
            x, used["head"] = batch_norm(x, one, zero, state["head"], mask, batch_statistics)
        return x, used

    return Model(init, apply)


def _untrained(width: int) -> Statistics:
    return Statistics(jnp.zeros(width, jnp.float32), jnp.ones(width, jnp.float32))
