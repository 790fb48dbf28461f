"""What every test runs under: strict types and ranks, eight CPU devices, warnings as errors."""

import os
from pathlib import Path

from tests.quick import QUICK

# Before jax starts its backend.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 {QUICK}"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# Read before the fixture below takes it from the environment.
GIVEN = os.environ.get("JAXMETA_DATA_DIR")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data sets, which lie beside the project and not in it."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    path = Path(GIVEN or beside)
    if not path.is_dir():
        pytest.skip("no real data: set JAXMETA_DATA_DIR to a folder with omniglot/ and cifar100/")
    return path
