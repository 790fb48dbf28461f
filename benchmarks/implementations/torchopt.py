"""TorchOpt: ``MetaSGD`` as in its MAML tutorial, with a backward pass for each task.

``MetaSGD`` always keeps the second-order graph, so first order uses the functional optimizer.
"""

from functools import partial
from typing import Any

import torch
import torchopt

from benchmarks.implementations import torch_model
from benchmarks.problem import Arrays, Data, Implementation, Problem


def build(problem: Problem, data: Data, parameters: Arrays) -> Implementation:
    """Builds the meta-gradient."""
    make_step = _second_order if problem.learner == "maml" else _first_order
    return Implementation(
        make_step(problem, data, parameters), partial(torch_model.as_arrays, problem)
    )


def _second_order(problem: Problem, data: Data, parameters: Arrays) -> Any:
    model = torch_model.make_model(problem, parameters)
    tasks = torch_model.make_tasks(problem, data)
    loss = torch_model.make_loss(problem)
    inner = torchopt.MetaSGD(model, lr=problem.learning_rate)
    initial = dict(model.named_parameters())
    model_state = torchopt.extract_state_dict(model, by="reference", detach_buffers=True)
    inner_state = torchopt.extract_state_dict(inner, by="reference")

    def step() -> dict[str, Any]:
        model.zero_grad()
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            for _ in range(problem.inner_steps):
                inner.step(loss(model(support_x), support_y))
            (loss(model(query_x), query_y) / problem.tasks).backward()
            torchopt.recover_state_dict(model, model_state)
            torchopt.recover_state_dict(inner, inner_state)
        return {name: parameter.grad for name, parameter in initial.items()}

    return step


def _first_order(problem: Problem, data: Data, parameters: Arrays) -> Any:
    model = torch_model.make_model(problem, parameters)
    tasks = torch_model.make_tasks(problem, data)
    loss = torch_model.make_loss(problem)
    optimizer = torchopt.sgd(lr=problem.learning_rate)
    initial = dict(model.named_parameters())

    def gradient(params: dict[str, Any], x: Any, y: Any) -> tuple[Any, ...]:
        outputs = torch.func.functional_call(model, params, (x,))
        return torch.autograd.grad(loss(outputs, y), list(params.values()))

    def step() -> dict[str, Any]:
        total = {name: torch.zeros_like(parameter) for name, parameter in initial.items()}
        for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
            params = initial
            state = optimizer.init(tuple(params.values()))
            for _ in range(problem.inner_steps):
                values = tuple(params.values())
                updates, state = optimizer.update(
                    gradient(params, support_x, support_y), state, params=values, inplace=False
                )
                values = torchopt.apply_updates(values, updates, inplace=False)
                params = {
                    name: value.detach().requires_grad_()
                    for name, value in zip(params, values, strict=True)
                }
            for leaf, part in zip(total.values(), gradient(params, query_x, query_y), strict=True):
                leaf.add_(part, alpha=1 / problem.tasks)
        return total

    return step
