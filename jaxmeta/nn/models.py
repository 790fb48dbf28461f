"""The small networks of the few-shot papers, as pairs of pure functions."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxmeta.nn.convolution import conv2d
from jaxmeta.nn.layers import Statistics, max_pool, moments, normalise
from jaxmeta.types import Array, Key, Model, PyTree

_he = jax.nn.initializers.he_normal()
_glorot = jax.nn.initializers.glorot_normal()


def mlp(outputs: int, hidden: Sequence[int] = (40, 40)) -> Model:
    """A multi-layer perceptron with ReLU, without normalisation; no state.

    The default widths are those of the sinusoid experiment of Finn et al., 2017, section 5.1.

    Args:
      outputs: size of the last, linear layer.
      hidden: sizes of the hidden layers.

    Returns:
      A model from ``[n, ...]`` (flattened) to ``[n, outputs]``; its parameters are
      ``{"layer0": {"kernel", "bias"}, ..., "head": {"kernel", "bias"}}``.
    """
    names = [f"layer{i}" for i in range(len(hidden))] + ["head"]

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        sizes = [x[0].size, *hidden, outputs]
        keys = jax.random.split(key, len(names))
        params = {
            name: _dense(k, a, b)
            for name, k, a, b in zip(names, keys, sizes[:-1], sizes[1:], strict=True)
        }
        return params, {}

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        x = x.reshape(x.shape[0], -1)
        for name in names[:-1]:
            x = jax.nn.relu(_affine(params[name], x))
        return _affine(params["head"], x), state

    return Model(init, apply)


def conv4(outputs: int | None = None, filters: int = 64, downsample: str = "pool") -> Model:
    """Four blocks of 3x3 convolution, batch normalisation and ReLU, each halving the image.

    Args:
      outputs: size of a linear head, whose parameters are named ``"head"``; ``None`` for none: the
        model then embeds.
      filters: channels of each convolution.
      downsample: ``"pool"`` halves by 2x2 max-pooling and flattens what is left (Vinyals et al.,
        2016, section 4.1); ``"stride"`` halves by stride-2 convolutions and averages over positions
        (Finn et al., 2017, section 5.2, for Omniglot).

    Returns:
      A model from images ``[n, height, width, channels]`` to ``[n, outputs]`` or ``[n, features]``;
      its parameters are ``{"block0": {"kernel", "scale", "offset"}, ..., "head": {...}}`` and its
      state ``{"block0": Statistics, ...}``. The convolutions have no bias: the normalisation would
      subtract it again.

    Raises:
      ValueError: ``downsample`` is neither of the two, or (from ``init``) nothing is left of the
        images after four halvings.
    """
    if downsample not in ("pool", "stride"):
        raise ValueError(f"downsample is {downsample!r}: choose 'pool' or 'stride'.")
    blocks = [f"block{i}" for i in range(4)]

    def init(key: Key, x: Array) -> tuple[PyTree, PyTree]:
        *keys, head_key = jax.random.split(key, len(blocks) + 1)
        params, state = {}, {}
        channels = x.shape[-1]
        for name, block_key in zip(blocks, keys, strict=True):
            params[name] = {
                "kernel": _he(block_key, (3, 3, channels, filters), jnp.float32),
                "scale": jnp.ones(filters, jnp.float32),
                "offset": jnp.zeros(filters, jnp.float32),
            }
            state[name] = Statistics(
                jnp.zeros(filters, jnp.float32), jnp.ones(filters, jnp.float32)
            )
            channels = filters
        features = jax.eval_shape(lambda: embed(params, state, x, None, True)[0]).shape[-1]
        if features == 0:
            raise ValueError(
                f"Images of {x.shape[1]} x {x.shape[2]} pixels are too small to be halved four "
                "times: give 16 pixels or more, or downsample='stride'."
            )
        if outputs is not None:
            params["head"] = _dense(head_key, features, outputs)
        return params, state

    def embed(
        params: PyTree, state: PyTree, x: Array, mask: Array | None, batch_statistics: bool
    ) -> tuple[Array, PyTree]:
        used = {}
        for name in blocks:
            block = params[name]
            # Normalising is monotone: with the sign of its scale moved into the kernel, the maximum
            # of what is normalised is the normalised maximum, so only a quarter is normalised.
            sign = jnp.where(block["scale"] < 0, -1.0, 1.0).astype(block["scale"].dtype)
            x = conv2d(
                x,
                block["kernel"] * sign[None, None, None],
                stride=2 if downsample == "stride" else 1,
            )
            turned = moments(x, mask) if batch_statistics else _turn(state[name], sign)
            if downsample == "pool":
                x = max_pool(x)
            x = normalise(x, turned, block["scale"] * sign, block["offset"])
            x = jax.nn.relu(x)
            used[name] = _turn(turned, sign)
        if downsample == "stride":
            return jnp.mean(x, axis=(1, 2)), used
        return x.reshape(x.shape[0], -1), used

    def apply(
        params: PyTree,
        state: PyTree,
        x: Array,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        features, used = embed(params, state, x, mask, batch_statistics)
        return (features if outputs is None else _affine(params["head"], features)), used

    return Model(init, apply)


def _turn(statistics: Statistics, sign: Array) -> Statistics:
    """The statistics of channels multiplied by these signs."""
    mean = statistics.mean
    return Statistics(mean * sign.astype(mean.dtype), statistics.variance)


def _dense(key: Key, inputs: int, outputs: int) -> dict[str, Array]:
    return {
        "kernel": _glorot(key, (inputs, outputs), jnp.float32),
        "bias": jnp.zeros(outputs, jnp.float32),
    }


def _affine(layer: PyTree, x: Array) -> Array:
    return x @ layer["kernel"] + layer["bias"][None]
