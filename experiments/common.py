"""What the entry points share: from a config to data, samplers and keys; stopping clearly."""

import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

import experiments
import jaxmeta
from jaxmeta import learners
from jaxmeta.build import build, find, near
from jaxmeta.checks import check_count
from jaxmeta.parallel import sharing, use_cores
from jaxmeta.processes import join, leads
from jaxmeta.types import UNLABELLED, Episode, Key, PyTree, Sampler, Source

WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where data sets lie; else JAXMETA_DATA_DIR.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the processes that the cluster tells of."
)
COORDINATOR = flags.DEFINE_string("coordinator", None, "Join others: host:port of process 0.")
PROCESSES = flags.DEFINE_integer("processes", None, "Join others: how many.", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", None, "Join others: which one this is.", lower_bound=0)
JOIN_SECONDS = flags.DEFINE_integer(
    "join_seconds", 300, "How long to wait for them.", lower_bound=1
)
NEEDED = ("data", "model", "learner", "loss", "metric", "higher_is_better")


def define_config(name: str, text: str) -> flags.FlagHolder[ConfigDict]:
    """A flag for a config file, whose specs may be given any argument on the command line."""
    return config_flags.DEFINE_config_file(
        name, None, text, lock_config=False, accept_new_attributes=True
    )


def check_fields(config: ConfigDict, known: ConfigDict, name: str = "config") -> None:
    """Checks the fields of a config against those of its file.

    Raises:
      ValueError: a field is neither in the file nor an argument in a spec.
    """
    for field in config:
        open_ended = "make" in known or name.endswith("evaluation.learner")
        if field not in known and not open_ended:
            raise ValueError(f"{name} has no field '{field}': {near(field, known)}.")
        if isinstance(config[field], ConfigDict) and isinstance(known.get(field), ConfigDict):
            check_fields(config[field], known[field], f"{name}.{field}")


def plain(config: ConfigDict) -> dict[str, Any]:
    """A config as plain dictionaries, all references resolved, having checked its counts.

    Raises:
      ValueError: a field is missing, a count is too small, or two counts do not go together.
    """
    fields: dict[str, Any] = config.copy_and_resolve_references().to_dict()
    for field in NEEDED:
        if field not in fields:
            raise ValueError(f"The config has no field '{field}': add it to its file.")
    evaluation, chunk = fields["evaluation"], fields["chunk"]
    schedule = fields["optimiser"].get("learning_rate")
    decay = schedule.get("decay_steps") if isinstance(schedule, dict) else None
    for name, value, least in (
        ("steps", fields["steps"], 0),
        ("meta_batch", fields["meta_batch"], 1),
        ("log_every", fields["log_every"], 1),
        ("evaluation.validation_episodes", evaluation["validation_episodes"], 2),
        ("evaluation.episodes", evaluation["episodes"], 2),
        ("chunk", chunk, 1),
        ("optimiser.learning_rate.decay_steps", decay, 1),
    ):
        if value is not None:
            check_count(f"config.{name}", value, least)
    if fields["learner"].get("normalisation") == "running":
        raise ValueError(
            "config.learner.normalisation is 'running', whose averages that training would never "
            "move: train with 'transductive', and set config.evaluation.learner.normalisation."
        )
    if fields["learner"].get("first_order_until") and name_of(fields["objective"]) == "episodic":
        raise ValueError(
            f"config.learner.first_order_until is {fields['learner']['first_order_until']}, but "
            "episodic does not count outer steps: set config.objective.make to "
            "jaxmeta.objectives.multi_step, with annealing_steps."
        )
    every = evaluation["every"]
    if every < 1 or every % fields["log_every"]:
        raise ValueError(
            f"config.evaluation.every is {every}: give a multiple of config.log_every, which is "
            f"{fields['log_every']}."
        )
    if chunk is not None and fields["meta_batch"] % chunk:
        raise ValueError(
            f"config.chunk is {chunk}: give a divisor of config.meta_batch, which is "
            f"{fields['meta_batch']}."
        )
    trained, evaluated = (fields["learner"].get("steps"), evaluation["learner"].get("steps"))
    if trained is not None and evaluated is not None and evaluated < trained:
        raise ValueError(
            f"config.evaluation.learner.steps is {evaluated}, fewer than config.learner.steps, "
            f"which is {trained}: set both."
        )
    return fields


def load_sources(config: Mapping[str, Any], data_dir: str | None) -> dict[str, Source]:
    """The train, valid and test task distributions of a config.

    ``data_dir`` is for data that lie in it; glyphs, say, have no use for it.
    """
    takes_it = "data_dir" in inspect.signature(find(config["data"]["make"])).parameters
    context = {"data_dir": data_dir} if data_dir and takes_it else {}
    sources: dict[str, Source] = build(config["data"], **context)
    return sources


def sampler(
    source: Source, split: str, protocol: Mapping[str, int], learner: Mapping[str, Any]
) -> Sampler:
    """The sampler of a split's episodes, or batches of examples, for the learner of a spec.

    Episodes of fewer ways than the learner was built for are padded to those. With ``least_ways``
    or ``least_shots`` each episode draws its number, from that to ``ways`` or ``shots``.

    Raises:
      ValueError: the split cannot fill such an episode, or the learner is built for fewer ways or
        classes.
    """
    if "examples" in protocol:
        if source.examples is None:
            raise ValueError(
                f"The data of the {split} split have no classes to train on without episodes: "
                "leave config.train.examples out."
            )
        check_classes(source, split, learner.get("classes"))
        return source.examples(protocol["examples"])
    options: dict[str, Any] = {**protocol}
    for count in ("ways", "shots"):
        least = options.pop(f"least_{count}", None)
        if least is not None:
            options[count] = (least, protocol[count])
    ways, most = protocol["ways"], learner.get("ways")
    if most is not None and most < ways:
        raise ValueError(
            f"The learner tells {most} ways apart and episodes of the {split} split have {ways}: "
            "give the learner more ways, or the episodes fewer."
        )
    padding = {"max_ways": most} if most is not None and most > ways else {}
    try:
        return source.episodes(**options, **padding)
    except ValueError as error:
        raise ValueError(f"The {split} split is too small: {error}") from error


def check_classes(source: Source, split: str, classes: int | None) -> None:
    """Checks a classifier of all classes of a split by whether that can fill one more way.

    Raises:
      ValueError: it can, so that there are examples of classes which the classifier does not have.
    """
    if classes is None:
        return
    try:
        source.episodes(classes + 1, 1, 1)
    except ValueError:
        return
    raise ValueError(
        f"config.learner.classes is {classes} but the {split} split has more: give their number."
    )


def check_labels(sample: Sampler, data: PyTree, ways: int | None) -> None:
    """Draws an episode, whose labels are then known, unlike those of the compiled program.

    Raises:
      ValueError: a label lies outside the ways.
    """
    if ways is not None:
        support, query = draw(sample, data, jax.random.key(0))
        learners.common.check_labels(np.asarray(support.y), ways, least=UNLABELLED)
        learners.common.check_labels(np.asarray(query.y), ways)


def draw(sample: Sampler, data: PyTree, key: Key) -> Episode:
    """One episode, drawn on one device wherever the data lie, so that any process may."""
    return jax.jit(sample)(jax.tree.map(np.asarray, data), key)


def devices_for(tasks: int) -> list[jax.Device]:
    """The devices that share the tasks of a step, having said so when some stay idle."""
    devices = sharing(tasks)
    if len(devices) < jax.device_count():
        say(
            f"Training on {len(devices)} of {jax.device_count()} devices: with more, none would "
            f"have fewer of the {tasks} tasks of a step."
        )
    return devices


def say(sentence: str) -> None:
    """Tells on stderr; of several processes, the first one does."""
    if leads():
        print(sentence, file=sys.stderr)


def evaluation_key(config: Mapping[str, Any], split: str) -> Key:
    """The key of a split's evaluation episodes.

    It does not depend on the run's seed, so every run and method is judged on the same episodes.
    """
    key = jax.random.key(config["evaluation"]["seed"])
    return jax.random.fold_in(key, ("train", "valid", "test").index(split))


def name_of(spec: Mapping[str, Any]) -> str:
    """The last part of the dotted name that a spec holds."""
    dotted: str = spec["function"] if "function" in spec else spec["make"]
    return dotted.rpartition(".")[2]


SIGNALS = (signal.SIGTERM, signal.SIGINT)


def stop(number: int, frame: FrameType | None) -> None:
    """Ends the program, where there is nothing to save."""
    # At once, not by an exception, which may crash the compiler. And not by print: the signal may
    # have come in the middle of one.
    os.write(
        2, f"\nStopped by {signal.Signals(number).name}: run the same command again.\n".encode()
    )
    os._exit(128 + number)


class Interruption:
    """Notes SIGTERM and SIGINT, so that the loop of a ``with`` block can save before it stops."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __enter__(self) -> "Interruption":
        self._former = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            stop(number, frame)
        self.signal = signal.Signals(number)
        os.write(2, b"\nSaving after the steps under way; once more to stop without.\n")


@contextmanager
def one_sentence() -> Iterator[None]:
    """Ends the program with the sentence of an error that a check of ours raised.

    An error that others raised, as in a user's own model, keeps its frames: they tell where.
    """
    try:
        yield
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        where = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        ours = [Path(path).resolve() for p in (jaxmeta, experiments) for path in p.__path__]
        if not set(ours) & set(where.resolve().parents):
            raise
        sys.exit(f"Error: {error}")


def run(main: Callable[[list[str]], None]) -> None:
    """Starts an absl program whose bad flags and fields are reported in one sentence."""
    # Orbax tells of every file it touches.
    logging.set_verbosity(logging.ERROR)
    use_cores()
    for number in SIGNALS:
        signal.signal(number, stop)
    app.run(lambda arguments: together(main, arguments), flags_parser=parse)


def give_up() -> None:
    """Ends a process that the others keep waiting."""
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

    One that fails ends at once: at the end of Python it would wait for the others, which wait for
    it.
    """
    if DISTRIBUTED.value or (COORDINATOR.value, PROCESSES.value, PROCESS.value) != (None,) * 3:
        # JAX would end the process itself, without a word of what to do.
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
    """Parses flags, and checks that the fields set exist."""
    try:
        rest = flags.FLAGS(arguments)
        for name in ("config", "data"):
            given = name in flags.FLAGS and flags.FLAGS[name].value is not None
            if given and isinstance(flags.FLAGS[name].parser, ConfigFileFlagParser):
                file = config_flags.get_config_filename(flags.FLAGS[name])
                check_fields(
                    flags.FLAGS[name].value, ConfigFileFlagParser(name, False).parse(file), name
                )
    except flags.IllegalFlagValueError as error:
        if "\n" in str(error):  # the frames of an error in the user's file
            raise
        sys.exit(f"Error: {str(error).rstrip('.')}; give a value of the field's type.")
    except KeyError as error:
        field, _, hint = error.args[0].replace("'", "").partition("\n")
        hint = hint or "see its file for those it has."
        sys.exit(f"Error: The config has no field '{field}': {hint[0].lower()}{hint[1:]}")
    except OSError as error:
        reason = str(error).splitlines()[-1].strip()
        sys.exit(
            f"Error: The config cannot be loaded ({reason}): give a file, as in "
            "--config=experiments/configs/quickstart.py."
        )
    except (flags.Error, ValueError) as error:
        sys.exit(f"Error: {error}")
    return rest
