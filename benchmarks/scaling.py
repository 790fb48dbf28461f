r"""How far one meta-step scales over chips: arithmetic on published figures, nothing is measured.

  python -m benchmarks.scaling

Prints the tables of ``docs/scaling/model.md``, which says where each figure comes from.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks import command
from benchmarks.report import Row, table

WAYS, SHOTS, QUERIES, STEPS = 5, 1, 15, 5
CHIPS = (8, 64, 512, 4096)
BANDWIDTHS = (1e9, 1e10, 1e11, 1e12)
UTILIZATION = 0.4
"""The share of a chip's peak that is reached, counting only the operations that are needed."""
EFFICIENCY = 0.9
HOP_OF_TORUS, HOP_OF_NVLINK, HOP_OF_NETWORK = 1e-6, 1.2e-6, 8.5e-6  # seconds


class Model(NamedTuple):
    """What a network costs.

    Attributes:
      name: name of the network.
      parameters: number of parameters.
      state: number of values that are carried but not differentiated.
      forward: operations of one example's forward pass; a multiplication and an addition are two.
      first: the part of ``forward`` in layers that read the input itself, which needs no gradient.
    """

    name: str
    parameters: int
    state: int
    forward: int
    first: int


class Level(NamedTuple):
    """Chips joined by one kind of link.

    Attributes:
      size: number of chips, or of groups of chips from the previous level.
      bandwidth: bytes that one chip sends per second.
      hops: number of consecutive hops, there and back.
      latency: seconds per hop.
    """

    size: int
    bandwidth: float
    hops: int
    latency: float


class System(NamedTuple):
    """A kind of chip, and how a number of them are joined, from the inside out."""

    name: str
    peak: float
    levels: Callable[[int], Sequence[Level]]


def conv4(filters: int, image_size: int, ways: int) -> Model:
    """Four normalized blocks that convolve and halve, on images of one channel, and a head."""
    sides = [image_size // 2**block for block in range(5)]
    first = 2 * 9 * filters * sides[0] ** 2
    others = sum(2 * 9 * filters**2 * side**2 for side in sides[1:4])
    features = filters * sides[4] ** 2
    return Model(
        "conv4",
        9 * filters + 3 * 9 * filters**2 + 4 * 2 * filters + (features + 1) * ways,
        4 * 2 * filters,
        first + others + 2 * features * ways,
        first,
    )


def resnet12(widths: Sequence[int], image_size: int, ways: int) -> Model:
    """Four residual blocks on RGB images, and a head on the mean of their maps.

    A block is three 3x3 convolutions and a 1x1 convolution parallel to them, each normalized, then
    a halving.
    """
    inputs = (3, *widths[:-1])
    sides = [image_size // 2**block for block in range(4)]
    kernels = [10 * i + 18 * o for i, o in zip(inputs, widths, strict=True)]
    weights = [kernel * o for kernel, o in zip(kernels, widths, strict=True)]
    return Model(
        "ResNet-12",
        sum(weights) + 4 * 2 * sum(widths) + (widths[-1] + 1) * ways,
        4 * 2 * sum(widths),
        sum(2 * w * s**2 for w, s in zip(weights, sides, strict=True)) + 2 * widths[-1] * ways,
        2 * 10 * 3 * widths[0] * sides[0] ** 2,
    )


def transformer(parameters: int, tokens: int) -> Model:
    """Layers that apply each parameter to each token; the products of attention are left out."""
    return Model("100M", parameters, 0, 2 * parameters * tokens, 0)


MODELS = (
    conv4(64, 28, WAYS),
    resnet12((64, 160, 320, 640), 84, WAYS),
    transformer(100_000_000, 196),
)


def task_flops(model: Model, support: int, query: int, steps: int) -> int:
    """The operations of one task's second-order meta-gradient, in reverse mode.

    A gradient costs three forward passes, less one of the layers that read the input. Reverse mode
    adds two products for each one in an inner gradient, or only one where the input is a factor.

    Args:
      model: the network.
      support: examples of an inner step.
      query: examples of the outer loss.
      steps: number of inner steps.
    """
    forward, first = model.forward, model.first
    return steps * support * (9 * forward - 5 * first) + query * (3 * forward - first)


def reduced_bytes(model: Model, steps: int) -> int:
    """The bytes that are averaged over chips in a step: gradient, state and metrics, in float32.

    The metrics of an episode are its loss and two for each inner step.
    """
    return 4 * (model.parameters + model.state + 1 + 2 * steps)


def all_reduce_seconds(size: float, levels: Sequence[Level]) -> float:
    """The time to scatter sums level by level outwards, and to gather them on the way back.

    Args:
      size: bytes, on every chip.
      levels: from the inside out; each works on the share that the previous one left on a chip.
    """
    total, share = 0.0, size
    for level in levels:
        moved = 2 * (level.size - 1) / level.size * share
        total += moved / level.bandwidth + level.hops * level.latency
        share /= level.size
    return total


def efficiency(task_seconds: float, tasks: int, reduce_seconds: float) -> float:
    """The part of a step in which a chip computes, if it reduces only after computing."""
    return tasks * task_seconds / (tasks * task_seconds + reduce_seconds)


def least_tasks(task_seconds: float, reduce_seconds: float) -> int:
    """The fewest tasks per chip that reach ``EFFICIENCY``."""
    return max(1, math.ceil(EFFICIENCY / (1 - EFFICIENCY) * reduce_seconds / task_seconds))


def torus(sides: Sequence[int], link: float, wrapped: bool) -> list[Level]:
    """Rings, or lines, along every side; every side carries its part of the data at all times."""
    bandwidth = len(sides) * link * (2 if wrapped else 1)
    return [
        Level(side, bandwidth, side if wrapped else 2 * (side - 1), HOP_OF_TORUS) for side in sides
    ]


def switched(groups: int, bandwidth: float) -> Level:
    """A tree over groups behind switches."""
    return Level(groups, bandwidth, 2 * math.ceil(math.log2(groups)), HOP_OF_NETWORK)


def v5p(chips: int) -> list[Level]:
    """A cube; from four chips a side on, its sides are closed into rings."""
    side = round(chips ** (1 / 3))
    return torus((side, side, side), link=1e11, wrapped=side % 4 == 0)


def v5e(chips: int) -> list[Level]:
    """Squares of at most 16 a side, closed into rings at 16, on the data center's network."""
    inside = min(chips, 256)
    rows = 2 ** (int(math.log2(inside)) // 2)
    levels = torus((rows, inside // rows), link=5e10, wrapped=inside == 256)
    return levels if chips == inside else [*levels, switched(chips // 256, 6.4e12 / 8 / 256)]


def boxes(chips: int, bandwidth: float) -> list[Level]:
    """Boxes of eight GPUs on NVLink; between boxes, each GPU sends ``bandwidth`` bytes a second."""
    level = Level(8, 450e9, 2 * (8 - 1), HOP_OF_NVLINK)
    return [level] if chips == 8 else [level, switched(chips // 8, bandwidth)]


SYSTEMS = (
    System("TPU v5e", 1.97e14, v5e),
    System("TPU v5p", 4.59e14, v5p),
    System("H100, InfiniBand", 9.9e14, lambda chips: boxes(chips, 400e9 / 8)),
    System("H100, Ethernet", 9.9e14, lambda chips: boxes(chips, 100e9 / 8 / 8)),
)


def flops(model: Model) -> int:
    """The operations of one task in the tables."""
    return task_flops(model, WAYS * SHOTS, WAYS * QUERIES, STEPS)


def seconds(model: Model, system: System) -> float:
    """The time of one task in the tables."""
    return flops(model) / (UTILIZATION * system.peak)


def size_row(model: Model) -> Row:
    """What a model reduces and computes."""
    return {
        "model": model.name,
        "parameters": f"{model.parameters:,}",
        "state": f"{model.state:,}",
        "reduced, MB": reduced_bytes(model, STEPS) / 1e6,
        "forward, GFLOP": model.forward / 1e9,
        "a task, GFLOP": flops(model) / 1e9,
    }


def bandwidth_row(model: Model) -> Row:
    """The time of reducing on many chips, without latency, by the bandwidth of one chip."""
    size = reduced_bytes(model, STEPS)
    return {
        "model": model.name,
        **{f"{b / 1e9:,.0f} GB/s": f"{2 * size / b * 1e3:,.3g} ms" for b in BANDWIDTHS},
    }


def least_bandwidth_row(model: Model) -> Row:
    """The bandwidth below which one task per chip, on many chips, is not efficient enough."""
    size, factor = reduced_bytes(model, STEPS), EFFICIENCY / (1 - EFFICIENCY)
    peaks = {system.name.partition(",")[0]: system for system in SYSTEMS}
    return {
        "model": model.name,
        **{
            name: f"{factor * 2 * size / seconds(model, system) / 1e9:,.3g} GB/s"
            for name, system in peaks.items()
        },
    }


def scaling_row(model: Model, system: System, chips: int) -> Row:
    """How a model scales over chips of one kind."""
    task = seconds(model, system)
    reduce = all_reduce_seconds(reduced_bytes(model, STEPS), system.levels(chips))
    tasks = least_tasks(task, reduce)
    return {
        "chips": f"{system.name}, {chips:,}",
        "a task, ms": task * 1e3,
        "reducing, ms": reduce * 1e3,
        "efficiency at 1 task": f"{efficiency(task, 1, reduce):.0%}".replace("%", " %"),
        "tasks for 90 %": f"{tasks:,}",
        "meta-batch": f"{tasks * chips:,}",
    }


def page() -> str:
    """All tables, as Markdown."""
    of_models = (size_row, bandwidth_row, least_bandwidth_row)
    parts = [table([row(model) for model in MODELS]) for row in of_models]
    for model in MODELS:
        rows = [scaling_row(model, system, chips) for system in SYSTEMS for chips in CHIPS]
        parts.append(f"{model.name}:\n\n{table(rows)}")
    return "\n\n".join(parts)


if __name__ == "__main__":
    command.run(lambda: print(page()))
