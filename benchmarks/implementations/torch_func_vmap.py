"""``torch.func`` with all tasks at once, by ``vmap``.

PyTorch's MAML example differentiates the vmapped losses, ``grad(vmap(loss))``. In PyTorch 2.13 the
second-order gradient is then wrong by 0.2 to 1.2 % if batch normalization has a scale and an
offset; without these, or with the normalization written out in elementary operations, it is
correct. ``vmap(grad(loss))`` is correct in every case, and is what is timed.
"""

from functools import partial
from typing import Any

from torch.func import grad, vmap

from benchmarks.implementations import torch_model
from benchmarks.implementations.torch_func import make_task_loss
from benchmarks.problem import Arrays, Data, Implementation, Problem


def build(problem: Problem, data: Data, parameters: Arrays) -> Implementation:
    """Builds the meta-gradient."""
    model = torch_model.make_model(problem, parameters)
    tasks = torch_model.make_tasks(problem, data)
    params = {name: leaf.detach() for name, leaf in model.named_parameters()}
    gradients = vmap(grad(make_task_loss(problem, model)), in_dims=(None, 0, 0, 0, 0))

    def step() -> dict[str, Any]:
        return {name: leaf.mean(0) for name, leaf in gradients(params, *tasks).items()}

    return Implementation(step, partial(torch_model.as_arrays, problem))
