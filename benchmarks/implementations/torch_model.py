"""What the PyTorch implementations share: the model, and conversions to and from its layout."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.problem import Arrays, Data, Problem

Task = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
"""Support inputs and targets, then query inputs and targets."""

LEAVES = {
    "convolution.weight": "kernel",
    "normalization.weight": "scale",
    "normalization.bias": "offset",
    "weight": "kernel",
    "bias": "bias",
}
"""The leaves of a layer, by their names in PyTorch."""


def make_model(problem: Problem, parameters: Arrays) -> Any:
    """The model with these parameters; images are ``[n, channels, height, width]``."""
    if problem.model == "mlp":
        layers = [("layer0", nn.Linear(1, 40)), ("relu0", nn.ReLU())]
        layers += [("layer1", nn.Linear(40, 40)), ("relu1", nn.ReLU()), ("head", nn.Linear(40, 1))]
    else:
        layers = [
            (f"block{i}", _block(problem.filters if i else 1, problem.filters)) for i in range(4)
        ]
        layers.append(("flatten", nn.Flatten()))
        if problem.learner != "protonet":
            features = problem.filters * (problem.image_size // 16) ** 2
            layers.append(("head", nn.Linear(features, problem.ways)))
    model = nn.Sequential(OrderedDict(layers))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = _to_torch(parameters[leaf_name(name)], problem, name)
            parameter.copy_(torch.tensor(value))
    return model


def _block(inputs: int, outputs: int) -> Any:
    return nn.Sequential(
        OrderedDict(
            convolution=nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            normalization=nn.BatchNorm2d(outputs, eps=1e-5, track_running_stats=False),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
        )
    )


def make_tasks(problem: Problem, data: Data) -> Task:
    """The meta-batch as tensors with a leading axis of tasks."""
    tensors = []
    for value in data:
        if problem.model == "conv4":
            # Images from NHWC to NCHW, labels to the type that PyTorch expects.
            value = np.moveaxis(value, -1, 2) if value.ndim == 5 else value.astype(np.int64)
        tensors.append(torch.tensor(value))
    return tuple(tensors)


def make_loss(problem: Problem) -> Callable[[Any, Any], Any]:
    """The loss of outputs and targets."""
    return functional.mse_loss if problem.model == "mlp" else functional.cross_entropy


def as_arrays(problem: Problem, gradient: Mapping[str, Any]) -> Arrays:
    """Gradients by PyTorch's names as arrays with our names and layouts."""
    return {
        leaf_name(name): _from_torch(leaf.detach().numpy(), problem, name)
        for name, leaf in gradient.items()
    }


def leaf_name(name: str) -> str:
    """``"block0.convolution.weight"`` as ``"block0/kernel"``."""
    layer, _, leaf = name.partition(".")
    return f"{layer}/{LEAVES[leaf]}"


def _is_head(problem: Problem, name: str) -> bool:
    return problem.model == "conv4" and name == "head.weight"


def _to_torch(value: np.ndarray, problem: Problem, name: str) -> np.ndarray:
    """Kernels ``[..., inputs, outputs]`` as ``[outputs, inputs, ...]``.

    PyTorch flattens channels first, so the head is treated as a kernel over what is left of the
    image.
    """
    if _is_head(problem, name):
        edge = problem.image_size // 16
        value = value.reshape(edge, edge, problem.filters, problem.ways)
        return value.transpose(3, 2, 0, 1).reshape(problem.ways, -1)
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def _from_torch(value: np.ndarray, problem: Problem, name: str) -> np.ndarray:
    """The inverse of ``_to_torch``."""
    if _is_head(problem, name):
        edge = problem.image_size // 16
        value = value.reshape(problem.ways, problem.filters, edge, edge)
        return value.transpose(2, 3, 1, 0).reshape(-1, problem.ways)
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
