"""Several processes that compute together, on one machine or many, with JAX's own runtime.

Each runs the same program. Whatever is to be written once is written by the first one.
"""

import sys

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

SILENCE = 60
"""Seconds without a sign of life after which a process counts as lost."""


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    seconds: int = 300,
) -> None:
    """Makes this process one of several; call it before jax computes anything.

    Args:
      coordinator: ``host:port`` of process 0; ``None`` asks the cluster (a TPU pod, Slurm, Open
        MPI, Kubernetes) for all three.
      processes: number of processes.
      process: index of this one, from 0.
      seconds: how long to wait for the others.

    Raises:
      ValueError: only some of the three are given, or they do not fit together.
      RuntimeError: the cluster does not provide them, or the others did not join in time.
    """
    given = (coordinator, processes, process)
    if None in given and given != (None, None, None):
        raise ValueError(
            f"coordinator, processes and process are {coordinator}, {processes} and {process}: "
            "give all three, or none to ask the cluster."
        )
    if processes is not None and process is not None and not 0 <= process < processes:
        raise ValueError(f"process is {process} and there are {processes}: count from 0.")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=seconds,
            heartbeat_timeout_seconds=SILENCE,
        )
    except (RuntimeError, ValueError) as error:
        where = "the cluster" if coordinator is None else f"{coordinator} as {process}/{processes}"
        raise RuntimeError(
            f"This process could not join the others by {where} "
            f"({str(error).splitlines()[0][:200]}): check that all are started, with the same "
            "coordinator, and that its port can be reached."
        ) from error


def is_primary() -> bool:
    """Whether this is the process that writes whatever is written once."""
    return jax.process_index() == 0


def say(sentence: str) -> None:
    """Prints to stderr; of several processes, only the first one does."""
    if is_primary():
        print(sentence, file=sys.stderr)


def global_max(value: int) -> int:
    """The largest of the processes' values; all processes have to call it."""
    if jax.process_count() == 1:
        return value
    return int(np.max(multihost_utils.process_allgather(np.int32(value))))


def from_primary(step: int | None) -> int | None:
    """The first process's step; a file system may show other processes an earlier one."""
    if jax.process_count() == 1:
        return step
    said = int(multihost_utils.broadcast_one_to_all(np.int32(-1 if step is None else step)))
    return None if said < 0 else said


def barrier(reason: str) -> None:
    """Returns when every process has called it."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(reason)


def shared_sharding() -> Sharding:
    """Sharding of an array that every process has whole: the first device, or a copy on each."""
    if jax.process_count() == 1:
        return SingleDeviceSharding(jax.devices()[0])
    # The mesh over which tasks are spread: a program may have only one.
    return NamedSharding(Mesh(np.array(jax.devices()), ("tasks",)), PartitionSpec())
