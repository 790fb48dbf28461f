import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest

from jaxmeta.data import make_episode
from jaxmeta.runs.checkpoint import open_checkpoints, save
from jaxmeta.runs.config import build_objective, complete
from jaxmeta.runs.workdir import Shapes, claim_folder
from jaxmeta.types import PyTree

SQUARED_ERROR = {"function": "jaxmeta.losses.squared_error"}
CONFIG = complete(
    {
        "data": {"make": "jaxmeta.data.sinusoid"},
        "ways": 1,
        "shots": 3,
        "queries": 3,
        "model": {"make": "jaxmeta.nn.mlp", "outputs": 1, "hidden": [4]},
        "learner": {
            "make": "jaxmeta.learners.maml",
            "steps": 1,
            "learning_rate": 0.1,
            "loss": SQUARED_ERROR,
        },
        "loss": SQUARED_ERROR,
        "metrics": {"error": SQUARED_ERROR},
        "higher_is_better": False,
    }
)


class Saved(NamedTuple):
    """A train state of these tests' own: checkpoints know no field of one by name."""

    params: PyTree
    state: PyTree = ()
    optimizer: PyTree = ()
    carry: PyTree = ()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, Saved]]:
    """A run of ``CONFIG`` with checkpoints of steps 1, 2 and 3, the second being the best."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    x, y = jnp.ones((3, 1)), jnp.zeros((3, 1))
    episode = make_episode(x, y, x, y)
    params, state = jax.jit(build_objective(CONFIG).init)(jax.random.key(0), episode)
    claim_folder(folder, CONFIG, Shapes(episode, episode))
    states = {}
    with open_checkpoints(folder / "checkpoints", CONFIG["higher_is_better"]) as checkpoints:
        for step, validation in ((1, 3.0), (2, 1.0), (3, 2.0)):
            params = jax.tree.map(lambda leaf: leaf + 1, params)
            states[step] = Saved(params, state, optax.adam(1e-3).init(params))
            save(checkpoints, step, states[step], {"train_seconds": step}, validation)
    return folder, states


def edit_config(folder: Path, **fields: Any) -> None:
    """Changes a run's config by hand."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
