"""Measurements of this library alone, each call in a process of its own.

An entry point is imported by every process that it starts, so no entry point imports jax; code that
needs jax is here.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from benchmarks.implementations.jaxmeta import make_arguments, make_model, make_objective
from benchmarks.problem import Problem, make_data
from benchmarks.report import spread
from benchmarks.workers import MIB, burst, peak_memory_mib, repeat, timed
from jaxmeta.data import StreamedSampler, decode_rotated_image, omniglot, stream, streamed_source
from jaxmeta.distributed.parallel import by_shard_map, devices_for, replicate
from jaxmeta.gradients import estimate, fitting_chunk
from jaxmeta.types import PyTree, Source

Row = dict[str, Any]


def meta_step(problem: Problem, differentiation: str = "mixed") -> tuple[Any, PyTree]:
    """The jitted meta-gradient, and its arguments on the devices that use them."""
    devices = devices_for(problem.tasks)
    objective = make_objective(problem, make_model(problem), differentiation)
    gradient = estimate(objective, spread=by_shard_map(devices))
    return jax.jit(gradient), replicate(make_arguments(problem, make_data(problem)), devices)


def memory(problem: Problem, differentiation: str, repetitions: int) -> Row:
    """Memory and time of the meta-gradient.

    Returns:
      ``temporary_mib``, the memory that XLA plans for the compiled program besides its arguments
      and results; how much the process grew at most, by the end of compilation and by the end of
      the run; the times of a call and of compilation.
    """
    gradient, arguments = meta_step(problem, differentiation)
    baseline = peak_memory_mib()
    compile_seconds, compiled = timed(lambda: gradient.lower(*arguments).compile())
    compiling = peak_memory_mib() - baseline
    step = partial(_run, compiled, arguments)
    step()  # the first call allocates its buffers
    seconds = repeat({"step": partial(burst, step)}, repetitions)["step"]
    return {
        "differentiation": differentiation,
        "inner_steps": problem.inner_steps,
        "temporary_mib": compiled.memory_analysis().temp_size_in_bytes / MIB,
        "compile_growth_mib": compiling,
        "peak_growth_mib": peak_memory_mib() - baseline,
        **spread(seconds),
        "compile_seconds": compile_seconds,
    }


def chunks(problem: Problem, sizes: Sequence[int], repetitions: int) -> list[Row]:
    """Times of the meta-gradient on one device, for each number of tasks at a time.

    ``relative_time`` is the median relative to that of the fastest of ``sizes``. The row
    ``automatic`` is a separate program that chooses its own number, given as ``tasks_at_a_time``.
    """
    arguments = make_arguments(problem, make_data(problem))
    objective = make_objective(problem, make_model(problem))
    chosen = {str(size): size for size in sizes}
    chosen["automatic"] = fitting_chunk(objective, *arguments)
    programs = {
        name: jax.jit(estimate(objective, chunk=None if name == "automatic" else size))
        for name, size in chosen.items()
    }
    compiled = {name: program.lower(*arguments).compile() for name, program in programs.items()}
    steps = {name: partial(_run, step, arguments) for name, step in compiled.items()}
    for step in steps.values():
        step()
    clocks = {name: partial(burst, step) for name, step in steps.items()}
    spreads = {name: spread(times) for name, times in repeat(clocks, repetitions).items()}
    fastest = min(spreads[str(size)]["median_ms"] for size in sizes)
    return [
        {
            "name": name,
            "tasks_at_a_time": chosen[name],
            **times,
            "relative_time": times["median_ms"] / fastest,
        }
        for name, times in spreads.items()
    ]


def compilation(problem: Problem, folder: str) -> Row:
    """Seconds to trace and to compile the meta-gradient, with a persistent cache in ``folder``.

    Returns:
      The seconds, and what jax reports of the cache: ``hits``, programs read from it, and
      ``misses``, programs compiled and written to it.
    """
    jax.config.update("jax_compilation_cache_dir", folder)
    # Small programs too, which jax does not cache by default.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    gradient, arguments = meta_step(problem)
    events: list[str] = []
    jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
    trace_seconds, lowered = timed(lambda: gradient.lower(*arguments))
    compile_seconds, _ = timed(lowered.compile)
    return {
        "trace_seconds": trace_seconds,
        "compile_seconds": compile_seconds,
        "hits": events.count("/jax/compilation_cache/cache_hits"),
        "misses": events.count("/jax/compilation_cache/cache_misses"),
    }


def episodes(problem: Problem, data_dir: str | None, repetitions: int) -> list[Row]:
    """Times of drawing a meta-batch of Omniglot and of its meta-gradient, in turns.

    ``share`` is the share of each in the time of both together.
    """
    source = omniglot(size=problem.image_size, data_dir=data_dir)["train"]
    sample = source.episodes(problem.ways, problem.shots, problem.queries)

    @jax.jit
    def draw(data: PyTree, key: jax.Array) -> PyTree:
        keys = jax.random.split(key, problem.tasks)
        return jax.vmap(sample, in_axes=(None, 0))(data, keys)

    gradient, (params, state, _, keys) = meta_step(problem)
    batch = draw(source.data, jax.random.key(0))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(batch))
    calls = {
        "sample": partial(_run, draw, (source.data, jax.random.key(1))),
        "meta_step": partial(_run, gradient, (params, state, batch, keys)),
    }
    for call in calls.values():
        call()  # compiles
    clocks = {name: partial(burst, call) for name, call in calls.items()}
    spreads = {name: spread(times) for name, times in repeat(clocks, repetitions).items()}
    both = sum(times["median_ms"] for times in spreads.values())
    rows: list[Row] = [
        {"name": name, **times, "share": times["median_ms"] / both}
        for name, times in spreads.items()
    ]
    per_second = 1e3 / spreads["sample"]["median_ms"]
    rows[0]["episodes_per_second"] = problem.tasks * per_second
    rows[0]["mib_per_second"] = size / MIB * per_second
    return rows


def streaming(
    problem: Problem, data_dir: str | None, milliseconds: Sequence[int], repetitions: int
) -> list[Row]:
    """How long a step waits for its meta-batch of Omniglot.

    Images are drawings, decoded and shrunk from TFDS's records, or their pixels in a memory-mapped
    file. A step is a sleep of one of the given lengths, as when an accelerator works and the host
    is idle, or the meta-gradient, which on a CPU needs the cores that read images. A step of 0 ms
    waits for as long as the stream takes; any step longer than that need not wait.

    Returns:
      Means over steps: ``step_ms``, ``alone_ms`` (a step when nothing is read), ``wait_ms``, and
      ``share``, the share of the total time spent waiting. The first steps, whose images were read
      before timing began, are left out.
    """
    gradient, (params, state, _, keys) = meta_step(problem)
    decoded = omniglot(size=problem.image_size, data_dir=data_dir, streamed=True)["train"]
    sample = _sampler(decoded, problem.ways, problem.shots, problem.queries)
    make = jax.jit(jax.vmap(sample.finish))

    def learn(choices: PyTree, images: PyTree) -> None:
        _run(gradient, (params, state, make(images, choices), keys))

    def sleep(length: int) -> Callable[[PyTree, PyTree], None]:
        return lambda choices, images: time.sleep(length / 1e3)

    steps = {f"sleep {length} ms": sleep(length) for length in milliseconds}
    steps["meta_step"] = learn
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, source in {"tfds": decoded, "array": _as_array(decoded, folder)}.items():
            for step in steps:
                times = _waits(problem, source, steps[step], repetitions)
                rows.append({"images": name, "step": step, **times})
    return rows


def _as_array(source: Source, folder: str) -> Source:
    """The same source, with its pixels in a file."""
    counts = np.asarray(source.data.counts)
    np.save(f"{folder}/pixels.npy", _sampler(source, 1, 1, 1).read(np.arange(counts.sum())))
    rows = np.split(np.arange(counts.sum()), np.cumsum(counts)[:-1])
    classes = {str(number): rows[number] for number in range(len(rows))}
    pixels = np.load(f"{folder}/pixels.npy", mmap_mode="r")
    return streamed_source(pixels, classes, decode=decode_rotated_image, variants=4)


def _sampler(source: Source, ways: int, shots: int, queries: int) -> StreamedSampler:
    sample = source.episodes(ways, shots, queries)
    assert isinstance(sample, StreamedSampler)
    return sample


def _waits(
    problem: Problem, source: Source, step: Callable[[PyTree, PyTree], None], repetitions: int
) -> Row:
    sample = _sampler(source, problem.ways, problem.shots, problem.queries)
    ahead = os.cpu_count() or 1
    before = 2 * ahead + 1
    key, stop = jax.random.key(0), before + repetitions
    items = stream(sample, source.data, key, problem.tasks, 0, stop, ahead=ahead)
    waits, lengths = [], []
    for _ in range(stop):
        wait, item = timed(partial(next, items))
        waits.append(wait)
        lengths.append(timed(partial(step, *item))[0])
    alone = [timed(partial(step, *item))[0] for _ in range(repetitions)]
    wait, length, alone_ms = (
        1e3 * statistics.mean(seconds) for seconds in (waits[before:], lengths[before:], alone)
    )
    share = wait / (wait + length)
    return {"step_ms": length, "alone_ms": alone_ms, "wait_ms": wait, "share": share}


def _run(function: Any, arguments: Any) -> Any:
    return jax.block_until_ready(function(*arguments))
