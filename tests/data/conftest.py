from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True)
def no_user_settings(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Real images are decoded once for all runs of the tests, away from the user's own cache."""
    monkeypatch.setenv("JAXMETA_CACHE_DIR", str(request.config.cache.mkdir("jaxmeta")))
    monkeypatch.delenv("JAXMETA_DATA_DIR", raising=False)


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
