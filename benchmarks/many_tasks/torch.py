"""PyTorch, as LibMTL computes it: a backward pass for each task, then dot products of gradients."""

import random
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.many_tasks.problem import CLASSES, Tasks
from benchmarks.problem import Arrays, Implementation
from benchmarks.two_views.torch import FILTERS, NAMES, convolution_block


def build(tasks: Tasks, parameters: Arrays) -> Implementation:
    """Builds the gradient."""
    count, side = len(tasks.x), tasks.x.shape[2] // 16
    blocks = OrderedDict((f"block{i}", convolution_block(FILTERS if i else 3)) for i in range(4))
    encoder = nn.Sequential(OrderedDict(encoder=nn.Sequential(blocks), flatten=nn.Flatten()))
    heads = [nn.Linear(FILTERS * side**2, CLASSES) for _ in range(count)]
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            value = parameters[_name(name)]
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
            parameter.copy_(torch.tensor(np.ascontiguousarray(value)))
        for task, head in enumerate(heads):
            kernel = parameters["heads/head/kernel"][task].reshape(side, side, FILTERS, CLASSES)
            # PyTorch flattens channels first.
            kernel = kernel.transpose(3, 2, 0, 1).reshape(CLASSES, -1)
            head.weight.copy_(torch.tensor(np.ascontiguousarray(kernel)))
            head.bias.copy_(torch.tensor(parameters["heads/head/bias"][task]))
    x = [torch.tensor(np.ascontiguousarray(np.moveaxis(each, -1, 1))) for each in tasks.x]
    y = [torch.tensor(each) for each in tasks.y]
    shared = list(encoder.parameters())
    order = random.Random(0)

    def step() -> dict[str, Any]:
        for parameter in (*shared, *(each for head in heads for each in head.parameters())):
            parameter.grad = None
        rows = []
        for task, head in enumerate(heads):
            (functional.cross_entropy(head(encoder(x[task])), y[task]) / count).backward()
            rows.append(torch.cat([parameter.grad.flatten() for parameter in shared]))
            for parameter in shared:
                parameter.grad = None
        vectors = torch.stack(rows)
        total = _projected(vectors, order).sum(0)
        pieces = torch.split(total, [parameter.numel() for parameter in shared])
        for parameter, piece in zip(shared, pieces, strict=True):
            parameter.grad = piece.view_as(parameter).clone()
        return {
            **{name: parameter.grad for name, parameter in encoder.named_parameters()},
            "kernels": [head.weight.grad for head in heads],
            "biases": [head.bias.grad for head in heads],
        }

    def arrays(gradient: dict[str, Any]) -> Arrays:
        kernels = np.stack([each.numpy() for each in gradient.pop("kernels")])
        kernels = kernels.reshape(count, CLASSES, FILTERS, side, side).transpose(0, 3, 4, 2, 1)
        made = {
            "heads/head/kernel": kernels.reshape(count, -1, CLASSES),
            "heads/head/bias": np.stack([each.numpy() for each in gradient.pop("biases")]),
        }
        for name, leaf in gradient.items():
            value = leaf.numpy()
            made[_name(name)] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
        return made

    return Implementation(step, arrays)


def _projected(vectors: Any, order: random.Random) -> Any:
    """Every task's gradient without what conflicts with each other one, in random order."""
    surgical = vectors.clone()
    for own in surgical:
        for other in order.sample(range(len(vectors)), len(vectors)):
            along = torch.dot(own, vectors[other])
            if along < 0:
                own -= along / vectors[other].square().sum() * vectors[other]
    return surgical


def _name(name: str) -> str:
    """``"encoder.block0.convolution.weight"`` as ``"encoder/block0/kernel"``."""
    part, block, leaf = name.split(".", 2)
    return f"{part}/{block}/{NAMES[leaf]}"
