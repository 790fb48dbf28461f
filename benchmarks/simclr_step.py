r"""One gradient of SimCLR in this library and in PyTorch, and what making the views adds to it.

  python -m benchmarks.simclr_step [--batches=2] [--size=128] [--image_size=32] [--repetitions=9]

A conv4 of 64 filters and a projector of 512 and 128; the loss is the mean over batches, each of
``--size`` images. ``jaxmeta`` and ``torch`` are given the views, and their gradients must agree;
``augmented`` makes the views from the images in the same step. Prints a JSON line for each, and a
table.
"""

from functools import partial

from absl import flags

from benchmarks import command
from benchmarks.machine import describe
from benchmarks.problem import relative_difference
from benchmarks.report import Row, show, spread, tell
from benchmarks.timing import again
from benchmarks.two_views.problem import make_views
from benchmarks.workers import Failure, Worker, in_own_process, repeat

TOLERANCE = 1e-3
"""How far rounding may move a gradient, relative to its norm; it flips a few ReLUs."""
BATCHES = flags.DEFINE_integer("batches", 2, "Batches of a step.", lower_bound=1)
SIZE = flags.DEFINE_integer("size", 128, "Images of a batch.", lower_bound=2)
IMAGE_SIZE = flags.DEFINE_integer("image_size", 32, "Side of the images.", lower_bound=16)
REPETITIONS = command.define_repetitions()


def main() -> None:
    """Checks, times and reports."""
    sizes = (BATCHES.value, SIZE.value, IMAGE_SIZE.value)
    views = make_views(*sizes)
    parameters = in_own_process("benchmarks.two_views.jaxmeta:make_parameters", *sizes)
    workers, gradients, skipped = {}, {}, {}
    for name in ("jaxmeta", "torch", "augmented"):
        try:
            workers[name] = Worker(
                "benchmarks.two_views.problem:Contestant", name, views, parameters
            )
            _, gradients[name] = workers[name].call("first")
        except Failure as failure:
            if name == "jaxmeta":
                raise
            skipped[name] = str(failure)
    if "torch" in gradients:
        difference = relative_difference(gradients["torch"], gradients["jaxmeta"])
        if difference > TOLERANCE:
            raise ValueError(
                f"The gradient of torch differs from that of jaxmeta by {difference:.2g} of its "
                f"norm, where {TOLERANCE:g} is rounding: find out which of the two is wrong."
            )
    calls = {name: partial(again, name, workers[name]) for name in gradients}
    spreads = {name: spread(times) for name, times in repeat(calls, REPETITIONS.value).items()}
    ours = spreads["jaxmeta"]["median_ms"]
    rows: list[Row] = [
        {"name": name, **times, "relative_time": times["median_ms"] / ours}
        for name, times in spreads.items()
    ]
    rows += [{"name": name, "skipped": why} for name, why in skipped.items()]
    for row in rows:
        tell(row)
    title = (
        f"A gradient of SimCLR: {BATCHES.value} batches of {SIZE.value} images in two views, conv4 "
        f"of 64 filters on {IMAGE_SIZE.value} x {IMAGE_SIZE.value} pixels, float32"
    )
    show(title, describe(in_own_process("benchmarks.machine:measure_device")), rows)


if __name__ == "__main__":
    command.run(main)
