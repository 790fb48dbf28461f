"""One of two processes that train every sketch together; ``test_objectives`` starts both.

Arguments: the coordinator, which process this is, and the folder for what the first one learned.
"""

import importlib
import sys
from pathlib import Path

import jax
import numpy as np

from jaxmeta.distributed.processes import is_primary, join

if __name__ == "__main__":
    coordinator, process, folder = sys.argv[1:]
    join(coordinator, 2, int(process))
    # Not before: its keys are computed, which starts jax.
    contracts = importlib.import_module("tests.objective_contracts")
    assert (jax.device_count(), jax.local_device_count()) == (8, 4)
    for name in contracts.SKETCHES:
        learned = jax.device_get(contracts.trained(contracts.sketch(name), steps=5))
        if is_primary():
            np.savez(Path(folder) / name, *jax.tree.leaves(learned))
