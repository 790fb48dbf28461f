"""What every test runs under: strict types and ranks, eight CPU devices, warnings as errors."""

import os
from pathlib import Path

# Before jax starts its backend. Programs here run for milliseconds and compile for seconds, so most
# optimisations are left out; the processes that tests start have them. Not level 0: with it, jax
# 0.10 computes second derivatives of XLA's own convolution that are wrong.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    + " --xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
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
