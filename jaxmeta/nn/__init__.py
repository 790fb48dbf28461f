"""Layers, models, and adapters that make a model of a flax module."""

from jaxmeta.nn.adapters import from_functions, from_linen, from_nnx
from jaxmeta.nn.convolution import conv2d, conv_general_dilated
from jaxmeta.nn.layers import Statistics, batch_norm, max_pool, moments, normalize
from jaxmeta.nn.models import conv4, mlp, relation_module
from jaxmeta.nn.precision import mixed_precision

__all__ = [
    "Statistics",
    "batch_norm",
    "conv2d",
    "conv4",
    "conv_general_dilated",
    "from_functions",
    "from_linen",
    "from_nnx",
    "max_pool",
    "mixed_precision",
    "mlp",
    "moments",
    "normalize",
    "relation_module",
]
