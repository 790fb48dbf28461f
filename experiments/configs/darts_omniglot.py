"""Which operation at which place: a search for a network by MAML on Omniglot.

Command: python -m experiments.train --config=experiments/configs/darts_omniglot.py:NAME \
    --workdir=DIR --data_dir=DATA
NAME is search, where each of three places has a mixture of three operations whose weights are
meta-learned and do not adapt, or the operations of the places, as in conv-pool-stride.
"""

import copy
from typing import Any

from ml_collections import ConfigDict

from . import common

OPERATIONS: dict[str, dict[str, Any]] = {
    "conv": {"make": "jaxmeta.nn.conv_block", "filters": 32, "downsample": "pool"},
    "stride": {"make": "jaxmeta.nn.conv_block", "filters": 32, "downsample": "stride"},
    "pool": {"make": "jaxmeta.nn.pooling"},
}
PLACES = 3


def get_config(name: str = "search") -> ConfigDict:
    config = common.classification(ways=5, shots=1, queries=15)
    config.steps = 2_000
    config.meta_batch = 8
    config.sample.queries = 5
    config.data = common.omniglot()
    config.data.size = 32  # which can be halved four times by every operation
    config.model = ConfigDict(
        {
            "make": "jaxmeta.nn.chained",
            # In the order of their names.
            "block0": dict(OPERATIONS["conv"]),
            **{f"block{i}": place for i, place in enumerate(places(name), 1)},
            "head": {"make": "jaxmeta.nn.mlp", "outputs": 5, "hidden": []},
        }
    )
    step = {"make": "jaxmeta.inner.sgd", "rates": 0.4}
    config.learner = common.learner(
        config,
        "gradient_learner",
        head=True,
        inner={"make": "jaxmeta.inner.unroll", "optimizer": step, "steps": 1},
        fast={"function": "jaxmeta.nn.outside_mixtures"},
    )
    return config


def places(name: str) -> list[Any]:
    """The specs of what is at each place.

    Raises:
      ValueError: there is no operation of a name, or they are not as many as the places.
    """
    if name == "search":
        # Copies, as a config that refers to one spec three times changes all with one.
        return [{"make": "jaxmeta.nn.mixture", **copy.deepcopy(OPERATIONS)} for _ in range(PLACES)]
    names = name.split("-")
    if len(names) != PLACES or not set(names) <= set(OPERATIONS):
        raise ValueError(
            f"'{name}' is not search, nor {PLACES} of {', '.join(OPERATIONS)} joined by '-'."
        )
    return [dict(OPERATIONS[each]) for each in names]
