"""The types that every part of jaxmeta shares: a task, how it is solved, and what is minimized.

Two types carry the library. A :class:`Learner` says how one task is solved; an :class:`Objective`
says what the outer loop minimizes. :func:`jaxmeta.objectives.episodic` turns the first into the
second. Both are pure functions of pytrees and of *one task*: the axes of a batch, of devices and of
hosts are added from outside.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
Key = jax.Array
"""A typed PRNG key, as made by ``jax.random.key``."""
PyTree = Any
Metrics = dict[str, Array]
UNLABELED = -1
"""The label of an example without one, in a support set."""


class Batch(NamedTuple):
    """Examples of one set, all sharing the leading axis ``n``.

    Attributes:
      x: inputs, any pytree of arrays ``[n, ...]``.
      y: integer class labels ``[n]``, or regression targets ``[n, d]``. In a support set -1 marks
        an example without a label: it counts in statistics and in no loss.
      mask: ``[n]`` float32, 1 for an example and 0 for padding.
    """

    x: PyTree
    y: Array
    mask: Array


class Episode(NamedTuple):
    """One task: learn from ``support``, be judged on ``query``."""

    support: Batch
    query: Batch


class Model(NamedTuple):
    """Any pair of pure functions.

    Attributes:
      init: ``(key, x) -> (params, state)``, where ``x`` is a batch of inputs ``[n, ...]``.
      apply: see :class:`Apply`.
    """

    init: Callable[[Key, PyTree], tuple[PyTree, PyTree]]
    apply: "Apply"


class Apply(Protocol):
    """The forward pass of a :class:`Model`."""

    def __call__(
        self,
        params: PyTree,
        state: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
        batch_statistics: bool = True,
    ) -> tuple[Array, PyTree]:
        """Maps inputs to outputs.

        Args:
          params: the parameters, differentiated.
          state: statistics of the inputs, floating (empty when the model has none).
          x: inputs ``[n, ...]``.
          mask: ``[n]``; examples with mask 0 take no part in any statistic. ``None`` is all ones.
          key: randomness (dropout); ``None`` means no noise.
          batch_statistics: normalize with the statistics of ``x`` and return *them* as the new
            state (averaging them over steps is the caller's business); otherwise normalize with
            ``state`` and return it unchanged.

        Returns:
          Outputs ``[n, ...]`` and the new state.
        """


class Learner(NamedTuple):
    """How one task is solved: adapt to the support set, then predict on the query set.

    Pure functions of *one* task: no axis of tasks, no devices, no outer optimizer.

    Attributes:
      init: ``(key, episode) -> (params, state)``. ``params`` is everything that is meta-learned,
        ``state`` what is carried and not differentiated.
      adapt: ``(params, state, support, key) -> (adapted, metrics)``; ``adapted`` holds only what
        differs between tasks.
      predict: see :class:`Predict`.
      path: ``(params, state, support, key) -> (adapted [T + 1, ...], metrics)``, where row t is
        what ``adapt`` gives after t of its T steps; ``None`` for learners that take none, or that
        do not say where they lead.
    """

    init: Callable[[Key, Episode], tuple[PyTree, PyTree]]
    adapt: Callable[[PyTree, PyTree, Batch, Key], tuple[PyTree, Metrics]]
    predict: "Predict"
    path: Callable[[PyTree, PyTree, Batch, Key], tuple[PyTree, Metrics]] | None = None


class Predict(Protocol):
    """How an adapted :class:`Learner` answers."""

    def __call__(
        self,
        params: PyTree,
        state: PyTree,
        adapted: PyTree,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        """Maps inputs ``x`` ``[n, ...]`` to logits ``[n, ways]`` or regression values ``[n, d]``.

        ``mask`` ``[n]`` keeps padding out of batch statistics (``None`` is all ones); ``key`` is
        the randomness, ``None`` meaning no noise, which is how evaluation calls it. Returns the
        outputs and the statistics that normalized them, as the new state.
        """


class Report(NamedTuple):
    """What the loss of one task reports besides its value.

    Attributes:
      statistics: statistics of this task, not averaged over anything; their mean over the tasks of
        a step is what :class:`Objective` ``update`` is given.
      metrics: what is reported, by name. Metrics of an inner loop keep their axis of steps.
      carry: what this task hands on to its own next step; see :class:`Carried`.
    """

    statistics: PyTree = ()
    metrics: Metrics = {}  # noqa: RUF012
    carry: PyTree = ()


class Objective(NamedTuple):
    r"""What the outer loop minimizes: the mean over tasks of the loss of one task.

    .. math:: \min_\theta\; \frac1k \sum_{i=1}^k \ell(\theta, s;\, \text{task}_i)

    A task is what a loss sees together: an episode, two views of a batch of images, a batch of each
    of two sources. Like those of a :class:`Learner`, the functions know of one task only.

    Attributes:
      init: ``(key, task) -> (params, state)``.
      loss: ``(params, state, task, key) -> (loss, report)``, a scalar and a :class:`Report`.
      update: ``(state, params, statistics) -> state``, called once a step, after the parameters
        have moved, with the mean of the tasks' statistics. By default the state stays as it is.
      carry: ``(params, state, task, key) -> carry``, what a task carries into its first step.
        Where it is given, ``loss`` is called with a :class:`Carried` as its task.
    """

    init: Callable[[Key, PyTree], tuple[PyTree, PyTree]]
    loss: "TaskLoss"
    update: Callable[[PyTree, PyTree, PyTree], PyTree] = lambda state, params, statistics: state
    carry: Callable[[PyTree, PyTree, PyTree, Key], PyTree] | None = None


class Carried(NamedTuple):
    """A freshly drawn task, and what the task in its place carried over from the step before."""

    task: PyTree
    carry: PyTree


TaskLoss = Callable[[PyTree, PyTree, PyTree, Key], tuple[Array, Report]]
"""``(params, state, task, key) -> (loss, report)``; see :class:`Objective`."""

Loss = Callable[[Array, Array, Array], Array]
"""``(outputs [n, ...], y [n, ...], mask [n]) -> scalar``, the mean over examples with mask 1."""

Sampler = Callable[[PyTree, Key], Any]
"""``(data, key) -> task``, pure; ``data`` is a pytree of arrays (empty for generated tasks)."""

Augment = Callable[[Key, PyTree], PyTree]
"""``(key, x) -> x``, a random change of one example that keeps label, structure, shape and type."""


class Source(NamedTuple):
    """A distribution of tasks.

    Attributes:
      data: arrays on the device, passed to the samplers so that they are never baked into a
        program.
      episodes: ``(ways, shots, queries, max_ways=None, max_shots=None) -> Sampler`` of
        :class:`Episode`, with further options where there are classes
        (:func:`jaxmeta.data.class_source`). Like the two below, it raises ``ValueError`` when the
        data cannot fill such a task.
      batches: ``(size) -> Sampler`` of ordinary :class:`Batch` es, labeled by the class of each
        example among all of the source; ``None`` where there are no classes.
      instances: ``(ways, shots, queries) -> Sampler`` of :class:`Episode` whose ways are single
        examples, each repeated ``shots + queries`` times, for unsupervised meta-learning;
        ``None`` where there are no fixed examples.
      classes: the number of classes that the labels of ``batches`` go over; ``None`` where there
        are no classes.
      relabeled: ``(labels [n]) -> Source`` of the same examples in other classes, numbered from 0,
        in the order of ``data.examples``; -1 leaves an example out. ``None`` where the data are not
        fixed examples in memory.
    """

    data: PyTree
    episodes: Callable[..., Sampler]
    batches: Callable[[int], Sampler] | None = None
    instances: Callable[[int, int, int], Sampler] | None = None
    classes: int | None = None
    relabeled: Callable[[Any], "Source"] | None = None
