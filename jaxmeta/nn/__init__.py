"""Layers, models, and adapters that make models from flax modules."""

from jaxmeta.nn.adapters import from_functions, from_linen, from_nnx
from jaxmeta.nn.assembled import Use, assembled
from jaxmeta.nn.chained import chained
from jaxmeta.nn.convolution import conv2d, conv_general_dilated
from jaxmeta.nn.decay import decay_mask
from jaxmeta.nn.layers import Statistics, batch_norm, layer_norm, max_pool, moments, normalize
from jaxmeta.nn.lenet import lenet
from jaxmeta.nn.maps import identity, isotropic, power, scaled, unit_length
from jaxmeta.nn.mixture import mixture, outside_mixtures, pooling
from jaxmeta.nn.models import conv4, conv_block, linear, mlp, relation_module
from jaxmeta.nn.precision import mixed_precision
from jaxmeta.nn.projector import projector
from jaxmeta.nn.residual_mlp import residual_mlp
from jaxmeta.nn.resnet import resnet12, resnet18
from jaxmeta.nn.text import mean_of_words, sentence_cnn, text_transformer
from jaxmeta.nn.transformer import attention, encode_tokens, init_encoder, transformer_block
from jaxmeta.nn.vit import (
    Patches,
    embed_patches,
    patchify,
    position_embeddings,
    unpatchify,
    vit,
)

__all__ = [
    "Patches",
    "Statistics",
    "Use",
    "assembled",
    "attention",
    "batch_norm",
    "chained",
    "conv2d",
    "conv4",
    "conv_block",
    "conv_general_dilated",
    "decay_mask",
    "embed_patches",
    "encode_tokens",
    "from_functions",
    "from_linen",
    "from_nnx",
    "identity",
    "init_encoder",
    "isotropic",
    "layer_norm",
    "lenet",
    "linear",
    "max_pool",
    "mean_of_words",
    "mixed_precision",
    "mixture",
    "mlp",
    "moments",
    "normalize",
    "outside_mixtures",
    "patchify",
    "pooling",
    "position_embeddings",
    "power",
    "projector",
    "relation_module",
    "residual_mlp",
    "resnet12",
    "resnet18",
    "scaled",
    "sentence_cnn",
    "text_transformer",
    "transformer_block",
    "unit_length",
    "unpatchify",
    "vit",
]
