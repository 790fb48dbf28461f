"""Starting and stopping a program: its flags, its signals, and its errors in one sentence."""

import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

import jaxmeta
from jaxmeta.distributed.parallel import use_cores
from jaxmeta.distributed.processes import join
from jaxmeta.runs.signals import SIGNALS, stop_at_once
from jaxmeta.runs.spec import suggest

WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets lie; else JAXMETA_DATA_DIR.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the processes that the cluster reports."
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "Join others: host:port of process 0.")
PROCESSES = flags.DEFINE_integer("processes", None, "Join others: their number.", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "Join others: which one this is.", lower_bound=0)
JOIN_SECONDS = flags.DEFINE_integer(
    "join_seconds", 300, "How long to wait for other processes.", lower_bound=1
)


CONFIGS = Path(__file__).resolve().with_name("configs")


class ConfigParser(ConfigFileFlagParser):  # type: ignore[misc]
    """Makes the config of a file, or one of ours by its name, as in ``glyphs:ridge``.

    Ours are imported as modules of this package, whatever its name.
    """

    def parse(self, path: str) -> Any:
        file, *argument = path.split(":", 1)
        own = (CONFIGS / f"{file}.py" if file.isidentifier() else Path(file)).resolve()
        if own.parent != CONFIGS or not own.exists():
            return super().parse(path)
        module = importlib.import_module(f"{__package__}.configs.{own.stem}")
        return module.get_config(*argument)


def define_config(name: str, text: str) -> flags.FlagHolder[ConfigDict]:
    """Defines a flag for a config; the command line may give its specs any argument."""
    holder = config_flags.DEFINE_config_file(
        name, None, text, lock_config=False, accept_new_attributes=True
    )
    flags.FLAGS[name].parser = ConfigParser(name, lock_config=False)
    return holder


OPEN_ENDED = (".learner", ".estimator", ".evaluations", ".metrics", ".rates", ".init_from")
"""Fields of a config that may have fields of any name."""


def check_fields(config: ConfigDict, known: ConfigDict, name: str = "config") -> None:
    """Checks the fields of a config against those of its file.

    Raises:
      ValueError: a field is neither in the file nor an argument of a spec.
    """
    for field in config:
        open_ended = "make" in known or name.endswith(OPEN_ENDED)
        if field not in known and not open_ended:
            raise ValueError(f"{name} has no field '{field}': {suggest(field, known)}.")
        if isinstance(config[field], ConfigDict) and isinstance(known.get(field), ConfigDict):
            check_fields(config[field], known[field], f"{name}.{field}")


@contextmanager
def one_sentence() -> Iterator[None]:
    """Ends the program with the message of an error that one of our checks raised.

    An error raised elsewhere, as in a user's own model, keeps its traceback, which shows where.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        where = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        ours = {Path(path).resolve() for path in jaxmeta.__path__} | {CONFIGS.parent}
        if not ours & set(where.resolve().parents):
            raise
        sys.exit(f"Error: {error}")


def run(main: Callable[[list[str]], None]) -> None:
    """Starts an absl program whose bad flags and fields are reported in one sentence."""
    # Orbax logs every file it touches.
    logging.set_verbosity(logging.ERROR)
    use_cores()
    for number in SIGNALS:
        signal.signal(number, stop_at_once)
    app.run(lambda arguments: together(main, arguments), flags_parser=parse)


def give_up() -> None:
    """Ends a process that has waited too long for the others."""
    who = f"--coordinator={COORDINATOR.value}" if COORDINATOR.value else "the cluster"
    os.write(
        2,
        f"Error: the other processes did not answer within {JOIN_SECONDS.value} seconds by {who}: "
        "check that all are started, that its address is right, and that its port can be reached; "
        "--join_seconds waits for longer.\n".encode(),
    )
    os._exit(1)


def together(main: Callable[[list[str]], None], arguments: list[str]) -> None:
    """Runs a program, as one of several processes if the flags say so.

    A process that fails ends at once: if Python exited normally, it would wait for the others,
    which wait for it.
    """
    if DISTRIBUTED.value or (COORDINATOR.value, PROCESSES.value, PROCESS.value) != (None,) * 3:
        # JAX would end the process itself, without saying what to do.
        waiting = threading.Timer(JOIN_SECONDS.value, give_up)
        waiting.daemon = True
        waiting.start()
        with one_sentence():
            join(COORDINATOR.value, PROCESSES.value, PROCESS.value, JOIN_SECONDS.value + 60)
        waiting.cancel()
    if jax.process_count() == 1:
        main(arguments)
        return
    status: str | int | None = 1
    try:
        main(arguments)
        return
    except SystemExit as stopped:
        status = stopped.code
    except jax.errors.JaxRuntimeError as error:
        status = (
            f"Error: process {jax.process_index()} lost another one "
            f"({str(error).splitlines()[0][:200]}): start all again with the same command, which "
            "resumes from the last checkpoint."
        )
    except Exception:
        traceback.print_exc()
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


def parse(arguments: list[str]) -> list[str]:
    """Parses flags, and checks that the fields they set exist."""
    try:
        rest = _parsed(arguments)
        for name in ("config", "data"):
            given = name in flags.FLAGS and flags.FLAGS[name].value is not None
            if given and isinstance(flags.FLAGS[name].parser, ConfigParser):
                file = config_flags.get_config_filename(flags.FLAGS[name])
                known = flags.FLAGS[name].parser.parse(file)
                check_fields(flags.FLAGS[name].value, known, name)
    except flags.IllegalFlagValueError as error:
        if "\n" in str(error):  # the traceback of an error in the user's file
            raise
        told = str(error).rstrip(".")
        hint = "; give a value of the field's type" if told.startswith("flag --config.") else ""
        sys.exit(f"Error: {told}{hint}.")
    except KeyError as error:
        field, _, hint = error.args[0].replace("'", "").partition("\n")
        hint = hint or "see its file for those it has."
        sys.exit(f"Error: The config has no field '{field}': {hint[0].lower()}{hint[1:]}")
    except OSError as error:
        reason = str(error).splitlines()[-1].strip()
        sys.exit(
            f"Error: The config cannot be loaded ({reason}): give a file, or the name of a config "
            "of ours, as in --config=quickstart."
        )
    except (flags.Error, ValueError) as error:
        sys.exit(f"Error: {error}")
    return rest


def _parsed(arguments: list[str]) -> list[str]:
    """Parses flags; raises ``ValueError`` with a remedy if one does not name a field."""
    try:
        return flags.FLAGS(arguments)
    except ValueError as error:
        raise ValueError(
            f"A flag of the config cannot be read ({str(error).splitlines()[0]}): write names with "
            "slashes in brackets, as in \"--config.rates['model/head']=0.1\", and set what has no "
            "fields yet in a config file."
        ) from error
