"""The small network for digits of the papers on domain adaptation."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.nn.convolution import conv2d
from jaxmeta.nn.layers import max_pool
from jaxmeta.types import Array, Key, Model, PyTree

WINDOW = 5


def lenet(filters: Sequence[int] = (32, 48), center: float = 0.0) -> Model:
    """Blocks of 5x5 convolution, ReLU and 2x2 max-pooling, without normalization or padding.

    The default channels are those of Ganin et al., 2016, figure 4a, whose classifier on top is
    ``mlp(10, hidden=[100, 100])``. Those of LeNet in ADDA and CDAN are ``[20, 50]``, with
    ``mlp(10, hidden=[500])``.

    Args:
      filters: channels of each convolution.
      center: is subtracted from every pixel; best the mean of the training images, without which an
        adversary's training of such a network may fail.

    Returns:
      A model from images ``[n, height, width, channels]`` to features ``[n, d]``; of 28 x 28 pixels
      it makes ``16 * filters[-1]``. Its parameters are ``{"block0": {"kernel", "bias"}, ...}``; it
      has no state.

    Raises:
      ValueError: a number is not a positive integer, or (from ``init``) nothing is left of the
        images.

    References:
      LeCun, Bottou, Bengio and Haffner, 1998, Gradient-Based Learning Applied to Document
      Recognition.

    >>> model, images = lenet(), jnp.ones((2, 28, 28, 3))
    >>> params, state = model.init(jax.random.key(0), images)
    >>> model.apply(params, state, images)[0].shape
    (2, 768)
    """
    for width in filters:
        check_count("filters", width, least=1)

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        params = {}
        channels, smallest = x.shape[-1], min(x.shape[1:3])
        for i, (own, width) in enumerate(
            zip(jax.random.split(key, len(filters)), filters, strict=True)
        ):
            smallest = (smallest - WINDOW + 1) // 2
            kernel = _glorot(own, (WINDOW, WINDOW, channels, width), jnp.float32)
            params[f"block{i}"] = {"kernel": kernel, "bias": jnp.zeros(width, jnp.float32)}
            channels = width
        if smallest < 1:
            raise ValueError(
                f"Images of {x.shape[1]} x {x.shape[2]} pixels are too small for {len(filters)} "
                "blocks of 5x5 convolution and halving: give larger images, or fewer filters."
            )
        return params, {}

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        x = x - center
        for i in range(len(filters)):
            block = params[f"block{i}"]
            # The maximum is taken first: adding a bias and ReLU keep the order.
            x = max_pool(conv2d(x, block["kernel"], padding="VALID"))
            x = jax.nn.relu(x + block["bias"][None, None, None])
        return x.reshape(len(x), -1), state

    return Model(init, apply)


_glorot = jax.nn.initializers.glorot_normal()
