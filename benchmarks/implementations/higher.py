"""higher, called as in its README and its MAML example, with a backward pass for each task."""

from functools import partial
from typing import Any

import higher
import torch

from benchmarks.implementations import torch_model
from benchmarks.problem import Arrays, Data, Implementation, Problem


def build(problem: Problem, data: Data, parameters: Arrays) -> Implementation:
    """Builds the meta-gradient."""
    model = torch_model.make_model(problem, parameters)
    tasks = torch_model.make_tasks(problem, data)
    loss = torch_model.make_loss(problem)
    optimizer = torch.optim.SGD(model.parameters(), lr=problem.learning_rate)
    second_order = problem.learner == "maml"

    def step() -> dict[str, Any]:
        model.zero_grad()
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            with higher.innerloop_ctx(
                model, optimizer, copy_initial_weights=False, track_higher_grads=second_order
            ) as (adapted, inner):
                for _ in range(problem.inner_steps):
                    inner.step(loss(adapted(support_x), support_y))
                query_loss = loss(adapted(query_x), query_y) / problem.tasks
                if second_order:
                    query_loss.backward()
                else:
                    # First order: the gradient with respect to the adapted parameters (higher's
                    # issue 63).
                    _add(model, torch.autograd.grad(query_loss, list(adapted.parameters())))
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    return Implementation(step, partial(torch_model.as_arrays, problem))


def _add(model: Any, gradients: Any) -> None:
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
