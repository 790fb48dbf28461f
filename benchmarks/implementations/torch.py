"""Prototypical networks in plain PyTorch, with a backward pass for each task."""

from functools import partial
from typing import Any

from torch.nn import functional

from benchmarks.implementations import torch_model
from benchmarks.problem import Arrays, Data, Implementation, Problem


def build(problem: Problem, data: Data, parameters: Arrays) -> Implementation:
    """Builds the gradient."""
    model = torch_model.make_model(problem, parameters)
    tasks = torch_model.make_tasks(problem, data)

    def step() -> dict[str, Any]:
        model.zero_grad()
        # Labels are sorted and balanced, so those of the support set are not needed.
        for support_x, _, query_x, query_y in zip(*tasks, strict=True):
            prototypes = model(support_x).unflatten(0, (problem.ways, problem.shots)).mean(1)
            logits = -(model(query_x)[:, None] - prototypes[None]).square().sum(-1)
            (functional.cross_entropy(logits, query_y) / problem.tasks).backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    return Implementation(step, partial(torch_model.as_arrays, problem))
