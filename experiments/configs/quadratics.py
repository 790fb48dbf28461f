"""A learned optimizer for quadratic functions: Andrychowicz et al., 2016, section 3.1.

Command: python -m experiments.train --config=experiments/configs/quadratics.py:METHOD \
    --workdir=DIR
Methods: along, where every outer step has whole trajectories and its gradient is cut every 20
steps; trajectories, where it goes on by 20 steps, as in the authors' code, whose outer steps are
five times as many.
"""

from ml_collections import ConfigDict

from . import common

STEPS, STRETCH = 100, 20


def get_config(method: str = "along") -> ConfigDict:
    config = common.regression(shots=10, queries=10)
    loss = ConfigDict({"function": "jaxmeta.losses.sum_of_squares"})
    config.loss = loss
    config.metrics = common.metrics(sum_of_squares=loss.function)
    config.steps = 10_000
    config.meta_batch = 128
    config.data = ConfigDict({"make": "jaxmeta.data.quadratics"})
    config.model = ConfigDict({"make": "jaxmeta.nn.linear", "outputs": 1})
    # Gradients are read as they are, as in the authors' code for these functions.
    lstm = {"make": "jaxmeta.inner.coordinatewise_lstm", "scale": 1.0, "log_range": None}
    inner = {"make": "jaxmeta.inner.unroll", "optimizer": lstm, "steps": STEPS}
    inner |= {"first_order": True, "truncate": STRETCH}
    config.learner = common.learner(config, "from_scratch", head=True, inner=inner, loss=loss)
    if method == "along":
        weights = {"function": "jaxmeta.objectives.evenly"}
        config.objective = ConfigDict({"make": "jaxmeta.objectives.along", "weights": weights})
    elif method == "trajectories":
        stretches = {"stretch": STRETCH, "horizon": STEPS, "first_order": True}
        config.objective = ConfigDict(
            {"make": "jaxmeta.objectives.trajectories", "optimizer": lstm, **stretches}
        )
    else:
        raise ValueError(f"There is no method '{method}': choose along or trajectories.")
    return config
