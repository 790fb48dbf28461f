"""Imagined examples where the best answer is known: classes that are normal distributions.

Command: python -m experiments.train --config=experiments/configs/gaussians.py:RUNG \
    --workdir=DIR [--config.data.spread=2]
Prototypical networks have a learned temperature; without it they are too certain, and a generator
learns to make them less so. Rungs: plain, of which nothing is trained; generator; zero, the same
network without noise; noise, which is as large as the spread of a class; bayes, the shrunk means.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxmeta.nn import from_functions
from jaxmeta.types import Model

from . import common

SIZE, EXTRA = 20, 5
RUNGS = ("plain", "generator", "zero", "noise", "bayes")


def shrinking(spread: float) -> Model:
    """The map of a single example that makes the prototype of it and of copies the shrunk mean."""
    factor = ((1 + EXTRA) / (1 + spread**2) - 1) / EXTRA
    return from_functions(lambda key, x: {}, lambda params, x: factor * x[:, :SIZE])


def noisy(spread: float) -> Model:
    """Noise around the example."""
    return from_functions(lambda key, x: {}, lambda params, x: x[:, :SIZE] + spread * x[:, SIZE:])


def get_config(rung: str = "generator") -> ConfigDict:
    if rung not in RUNGS:
        raise ValueError(f"There is no rung '{rung}': choose {', '.join(RUNGS)}.")
    config = common.protocol(ways=5, shots=1, queries=15)
    config.loss = ConfigDict({"function": "jaxmeta.losses.cross_entropy"})
    config.metrics = common.metrics(accuracy="jaxmeta.losses.accuracy")
    config.higher_is_better = True
    config.steps = 5_000
    config.evaluation.episodes = 10_000
    config.data = ConfigDict({"make": "jaxmeta.data.gaussians", "size": SIZE, "spread": 1.0})
    config.model = ConfigDict({"make": "jaxmeta.nn.scaled", "scale": 0.5})
    learner = common.learner(config, "prototypical")
    spread = config.data.get_oneway_ref("spread")
    network = {"make": "jaxmeta.nn.residual_mlp", "hidden": [128], "codes": SIZE}
    generators: dict[str, dict[str, Any]] = {
        "generator": network,
        "zero": network,
        "noise": {"make": f"{__name__}.noisy", "spread": spread},
        "bayes": {"make": f"{__name__}.shrinking", "spread": spread},
    }
    if rung in generators:
        about = {"generator": generators[rung], "extra": EXTRA, "noise": SIZE}
        about["codes"] = "zero" if rung == "zero" else "drawn"
        learner = ConfigDict({"make": "jaxmeta.learners.hallucinated", "learner": learner, **about})
    config.learner = learner
    if generators.get(rung) is not network:
        config.steps = 0
        config.optimizer = ConfigDict({"make": "optax.identity"})
    return config
