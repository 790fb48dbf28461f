"""The machine: what it is, and how fast it multiplies matrices at best."""

import importlib.metadata
import os
import pathlib
import platform
from typing import NamedTuple

from benchmarks.workers import timed

PACKAGES = ("jax", "jaxlib", "torch", "higher", "torchopt")
SIZES = (1024, 1536, 2048)
REPETITIONS = 5


class Device(NamedTuple):
    """The device that jax computes on.

    Attributes:
      kind: its name, as jax reports it.
      peak: the most float32 operations per second measured in a matrix product.
    """

    kind: str
    peak: float


def measure_device() -> Device:
    """Multiplies square matrices of several sizes in jax and takes the fastest.

    A product of size n counts as 2 n^3 operations.
    """
    import jax  # not at the top: entry points import this file but no library

    peak = max(2 * size**3 / _seconds_of_product(size) for size in SIZES)
    return Device(jax.devices()[0].device_kind, peak)


def _seconds_of_product(size: int) -> float:
    import jax
    import jax.numpy as jnp

    multiply = jax.jit(jnp.matmul)
    a, b = jax.random.normal(jax.random.key(0), (2, size, size), jnp.float32)
    first, *others = (
        timed(lambda: jax.block_until_ready(multiply(a, b)))[0] for _ in range(1 + REPETITIONS)
    )
    del first  # compiles
    return min(others)


def describe(device: Device) -> str:
    """One line about the machine: processor, cores, device, versions."""
    versions = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return (
        f"{processor()}, {len(os.sched_getaffinity(0))} cores; {device.kind}, "
        f"{device.peak / 1e9:.0f} GFLOP/s in float32 matrix products; {', '.join(versions)}"
    )


def processor() -> str:
    """The processor's name."""
    information = pathlib.Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
