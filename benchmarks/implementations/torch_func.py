"""PyTorch's own transformations, ``torch.func``, with a loop over tasks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.func import functional_call, grad

from benchmarks.implementations import torch_model
from benchmarks.problem import Arrays, Data, Implementation, Problem


def make_task_loss(problem: Problem, model: Any) -> Callable[..., Any]:
    """The query loss of one task after its inner steps, ``(params, *task) -> scalar``."""
    loss = torch_model.make_loss(problem)

    def fit(params: dict[str, Any], x: Any, y: Any) -> Any:
        return loss(functional_call(model, params, (x,)), y)

    def task_loss(
        params: dict[str, Any], support_x: Any, support_y: Any, query_x: Any, query_y: Any
    ) -> Any:
        for _ in range(problem.inner_steps):
            gradient = grad(fit)(params, support_x, support_y)
            if problem.learner == "fomaml":
                gradient = {name: leaf.detach() for name, leaf in gradient.items()}
            params = {
                name: leaf - problem.learning_rate * gradient[name] for name, leaf in params.items()
            }
        return fit(params, query_x, query_y)

    return task_loss


def build(problem: Problem, data: Data, parameters: Arrays) -> Implementation:
    """Builds the meta-gradient."""
    model = torch_model.make_model(problem, parameters)
    tasks = torch_model.make_tasks(problem, data)
    params = {name: leaf.detach() for name, leaf in model.named_parameters()}
    gradient_of_task = grad(make_task_loss(problem, model))

    def step() -> dict[str, Any]:
        total = {name: torch.zeros_like(leaf) for name, leaf in params.items()}
        for task in zip(*tasks, strict=True):
            for name, leaf in gradient_of_task(params, *task).items():
                total[name].add_(leaf, alpha=1 / problem.tasks)
        return total

    return Implementation(step, partial(torch_model.as_arrays, problem))
