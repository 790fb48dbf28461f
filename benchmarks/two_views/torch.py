"""Plain PyTorch, with a backward pass for each batch."""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.problem import Arrays, Implementation
from benchmarks.two_views.problem import HIDDEN, OUTPUTS, TEMPERATURE, Views

NAMES = {
    "convolution.weight": "kernel",
    "linear.weight": "kernel",
    "normalization.weight": "scale",
    "normalization.bias": "offset",
    "weight": "kernel",
    "bias": "bias",
}
FILTERS = 64


def build(views: Views, parameters: Arrays) -> Implementation:
    """Builds the gradient."""
    side = views.first.shape[2] // 16
    network = _network(side)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            value = parameters[_name(name)]
            if name == "projector.layer0.linear.weight":
                # PyTorch flattens channels first.
                value = value.reshape(side, side, FILTERS, HIDDEN).transpose(2, 0, 1, 3)
                value = value.reshape(-1, HIDDEN)
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
            parameter.copy_(torch.tensor(np.ascontiguousarray(value)))
    batches = [
        [torch.tensor(np.ascontiguousarray(np.moveaxis(view[i], -1, 1))) for view in views]
        for i in range(len(views.first))
    ]

    def step() -> dict[str, Any]:
        network.zero_grad()
        for first, second in batches:
            (_loss(network(first), network(second)) / len(batches)).backward()
        return {name: parameter.grad for name, parameter in network.named_parameters()}

    def arrays(gradient: dict[str, Any]) -> Arrays:
        made = {}
        for name, leaf in gradient.items():
            value = leaf.detach().numpy()
            value = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T
            if name == "projector.layer0.linear.weight":
                value = value.reshape(FILTERS, side, side, HIDDEN).transpose(1, 2, 0, 3)
                value = value.reshape(-1, HIDDEN)
            made[_name(name)] = value
        return made

    return Implementation(step, arrays)


def _loss(first: Any, second: Any) -> Any:
    z = functional.normalize(torch.cat([first, second]), dim=1)
    count = len(z)
    similar = z @ z.T / TEMPERATURE
    similar.fill_diagonal_(-torch.inf)
    return functional.cross_entropy(similar, (torch.arange(count) + count // 2) % count)


def _network(side: int) -> Any:
    blocks = OrderedDict((f"block{i}", convolution_block(FILTERS if i else 3)) for i in range(4))
    layers = OrderedDict(
        layer0=nn.Sequential(
            OrderedDict(
                linear=nn.Linear(FILTERS * side**2, HIDDEN, bias=False),
                normalization=nn.BatchNorm1d(HIDDEN, eps=1e-5, track_running_stats=False),
                relu=nn.ReLU(),
            )
        ),
        head=nn.Linear(HIDDEN, OUTPUTS),
    )
    return nn.Sequential(
        OrderedDict(
            model=nn.Sequential(blocks), flatten=nn.Flatten(), projector=nn.Sequential(layers)
        )
    )


def convolution_block(inputs: int) -> Any:
    """A block of a conv4, by the statistics of the batch."""
    return nn.Sequential(
        OrderedDict(
            convolution=nn.Conv2d(inputs, FILTERS, 3, padding=1, bias=False),
            normalization=nn.BatchNorm2d(FILTERS, eps=1e-5, track_running_stats=False),
            relu=nn.ReLU(),
            pool=nn.MaxPool2d(2),
        )
    )


def _name(name: str) -> str:
    """``"model.block0.convolution.weight"`` as ``"block0/kernel"``."""
    part, layer, leaf = name.split(".", 2)
    return f"{layer}/{NAMES[leaf]}" if part == "model" else f"{part}/{layer}/{NAMES[leaf]}"
