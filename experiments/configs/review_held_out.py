"""Reviews of 15 domains, to predict those of another of which nothing is known (MLDG or plain).

Command: python -m experiments.train --config=experiments/configs/review_held_out.py:mldg \
    --workdir=DIR --data_dir=DATA --config.data.held_out=books
Methods: mldg, and joint, which minimizes the loss of all domains.
"""

from ml_collections import ConfigDict

from . import multitask
from .review_tasks import TASKS

METHODS = ("mldg", "joint")
EACH = 8  # examples of a domain in a step


def get_config(method: str = "mldg") -> ConfigDict:
    if method not in METHODS:
        raise ValueError(f"There is no method '{method}': choose {', '.join(METHODS)}.")
    config = multitask.configure(TASKS, "hard_sharing")
    config.data.held_out = "books"
    head = {"make": "jaxmeta.nn.mlp", "outputs": TASKS.classes, "hidden": []}
    layers = {"make": "jaxmeta.nn.chained", "features": dict(TASKS.stages[0]), "head": head}
    config.model = ConfigDict({"make": "jaxmeta.multitask.one_network", "model": layers})
    batches = {"batches": EACH}
    if method == "mldg":
        # Every domain is in a task, one of them held out.
        config.meta_batch = 1
        config.sample = ConfigDict({"make": "jaxmeta.data.held_out_task", "sample": batches})
        config.objective = ConfigDict({"make": "jaxmeta.domains.mldg"})
        config.objective.learning_rate = 0.05
        config.objective.weight = 1.0
    else:
        config.meta_batch = TASKS.tasks - 1
        config.sample = ConfigDict(batches)
    return config
