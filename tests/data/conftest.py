import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

# Read before the fixture below takes it from the environment.
GIVEN = os.environ.get("JAXMETA_DATA_DIR")


@pytest.fixture
def data_dir() -> Path:
    """The real data sets, which lie beside the project and not in it."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    path = Path(GIVEN or beside)
    if not path.is_dir():
        pytest.skip("no real data: set JAXMETA_DATA_DIR to a folder with omniglot/ and cifar100/")
    return path


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Real images are decoded once for all runs of the tests, away from the user's own cache."""
    monkeypatch.setenv("JAXMETA_CACHE_DIR", str(request.config.cache.mkdir("jaxmeta")))
    monkeypatch.delenv("JAXMETA_DATA_DIR", raising=False)


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
