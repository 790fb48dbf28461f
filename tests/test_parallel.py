"""What spreading over devices does beside the contracts of tests/contracts.py."""

import subprocess
import sys

SCRIPT = """
import os, jax
from jaxmeta.parallel import use_cores
use_cores()
print(jax.device_count(), len(os.sched_getaffinity(0)))
"""


def counts(flags=""):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags, "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


def test_every_core_becomes_a_device():
    devices, cores = counts()
    assert devices == cores


def test_a_number_of_devices_that_was_chosen_stays():
    assert counts("--xla_force_host_platform_device_count=3")[0] == 3
