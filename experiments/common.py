"""What the entry points share: from a config to data, samplers and keys; stopping clearly."""

import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict

from jaxmeta.build import build
from jaxmeta.types import Key, Sampler, Source


def plain(config: ConfigDict) -> dict[str, Any]:
    """A config as plain dictionaries, all references resolved, having checked its counts.

    Raises:
      ValueError: a count is too small, or validations would fall between lines of metrics.
    """
    fields: dict[str, Any] = config.copy_and_resolve_references().to_dict()
    for field, least in (("steps", 0), ("meta_batch", 1), ("log_every", 1)):
        if fields[field] < least:
            raise ValueError(f"config.{field} is {fields[field]}: give {least} or more.")
    every = fields["evaluation"]["every"]
    if every < 1 or every % fields["log_every"]:
        raise ValueError(
            f"config.evaluation.every is {every}: give a multiple of config.log_every, which is "
            f"{fields['log_every']}."
        )
    return fields


def load_sources(config: Mapping[str, Any], data_dir: str | None) -> dict[str, Source]:
    """The train, valid and test task distributions of a config."""
    context = {"data_dir": data_dir} if data_dir else {}
    sources: dict[str, Source] = build(config["data"], **context)
    return sources


def evaluation_key(config: Mapping[str, Any], split: str) -> Key:
    """The key of a split's evaluation episodes.

    It does not depend on the run's seed, so every run and method is judged on the same episodes.
    """
    key = jax.random.key(config["evaluation"]["seed"])
    return jax.random.fold_in(key, ("train", "valid", "test").index(split))


def tasks_at_a_time(config: Mapping[str, Any]) -> int | None:
    """One on a CPU, where a task's arrays then stay in the caches; all on an accelerator."""
    chunk: int | None = config["chunk"]
    if chunk is None and jax.default_backend() == "cpu":
        return 1
    return chunk


def name_of(spec: Mapping[str, Any]) -> str:
    """The last part of the dotted name that a spec holds."""
    dotted: str = spec["function"] if "function" in spec else spec["make"]
    return dotted.rpartition(".")[2]


class Interruption:
    """Notes SIGTERM and SIGINT, so that the loop can save before it stops."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # A second signal means that the user does not want to wait for the save.
        if self.signal is not None:
            sys.exit(128 + number)
        self.signal = signal.Signals(number)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Ends the program with the sentence of a ``ValueError``, not with a stack of frames."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, FileNotFoundError) as error:
        sys.exit(f"Error: {error}")


def run(main: Callable[[list[str]], None]) -> None:
    """Starts an absl program whose bad flags and fields are reported in one sentence."""

    # Orbax tells of every file it touches.
    logging.set_verbosity(logging.WARNING)

    def parse(arguments: list[str]) -> list[str]:
        try:
            return flags.FLAGS(arguments)
        except (flags.Error, AttributeError, KeyError, FileNotFoundError) as error:
            sentence = str(error).strip("'\"").replace("\\'", "").replace("\\n", ": ")
            sys.exit(f"Error: {sentence}")

    app.run(main, flags_parser=parse)
