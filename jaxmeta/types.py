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
        an example without a label: it counts in statistics but in no loss.
      mask: ``[n]`` float32, 1 for an example and 0 for padding.
    """

    x: PyTree
    y: Array
    mask: Array


class Tasked(NamedTuple):
    """Inputs that say which of many tasks they belong to, as the ``x`` of a :class:`Batch`.

    Attributes:
      x: inputs, any pytree of arrays ``[n, ...]``.
      task: int32 ``[n]``, the number of each example's task.
    """

    x: PyTree
    task: Array


class Episode(NamedTuple):
    """One task: learn from ``support``, be evaluated on ``query``."""

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
          mask: ``[n]``; statistics ignore examples with mask 0. ``None`` is all ones.
          key: randomness (dropout); ``None`` means no noise.
          batch_statistics: normalize with the statistics of ``x`` and return *them* as the new
            state (averaging them over steps is left to the caller); otherwise normalize with
            ``state`` and return it unchanged.

        Returns:
          Outputs ``[n, ...]`` and the new state.
        """


class Learner(NamedTuple):
    """How one task is solved: adapt to the support set, then predict on the query set.

    Pure functions of *one* task: no axis of tasks, no devices, no outer optimizer.

    Attributes:
      init: ``(key, episode) -> (params, state)``. ``params`` is everything that is meta-learned,
        ``state`` what is carried but not differentiated.
      adapt: ``(params, state, support, key) -> (adapted, metrics)``; ``adapted`` holds only what
        differs between tasks.
      predict: see :class:`Predict`.
      path: ``(params, state, support, key) -> (adapted [T + 1, ...], metrics)``, where row t is
        the result of ``adapt`` after t of its T steps; ``None`` for learners that take no steps
        or do not return them.
    """

    init: Callable[[Key, Episode], tuple[PyTree, PyTree]]
    adapt: Callable[[PyTree, PyTree, Batch, Key], tuple[PyTree, Metrics]]
    predict: "Predict"
    path: Callable[[PyTree, PyTree, Batch, Key], tuple[PyTree, Metrics]] | None = None


class Predict(Protocol):
    """How an adapted :class:`Learner` predicts."""

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
        the randomness, where ``None``, as in evaluation, means no noise. Returns the outputs and,
        as the new state, the statistics used for normalization.
        """


class Report(NamedTuple):
    """What the loss of one task reports besides its value.

    Attributes:
      statistics: statistics of this task, not averaged over anything; their mean over the tasks of
        a step is passed to the ``update`` of the :class:`Objective`.
      metrics: metrics by name. Those of an inner loop keep their axis of steps.
      carry: what this task passes on to its own next step; see :class:`Carried`.
    """

    statistics: PyTree = ()
    metrics: Metrics = {}  # noqa: RUF012
    carry: PyTree = ()


class Objective(NamedTuple):
    r"""What the outer loop minimizes: the mean over tasks of the loss of one task.

    .. math:: \min_\theta\; \frac1k \sum_{i=1}^k \ell(\theta, s;\, \text{task}_i)

    A task is whatever a loss sees at once: an episode, two views of a batch of images, a batch from
    each of two sources. Like those of a :class:`Learner`, the functions are of one task only.

    Attributes:
      init: ``(key, task) -> (params, state)``.
      loss: ``(params, state, task, key) -> (loss, report)``, a scalar and a :class:`Report`.
      update: ``(state, params, statistics) -> state``, called once per step, after the parameters
        are updated, with the mean of the tasks' statistics. By default the state is unchanged.
      carry: ``(params, state, task, key) -> carry``, what a task carries into its first step.
        If it is given, ``loss`` is called with a :class:`Carried` as its task.
    """

    init: Callable[[Key, PyTree], tuple[PyTree, PyTree]]
    loss: "TaskLoss"
    update: Callable[[PyTree, PyTree, PyTree], PyTree] = lambda state, params, statistics: state
    carry: Callable[[PyTree, PyTree, PyTree, Key], PyTree] | None = None


class Carried(NamedTuple):
    """A newly drawn task, and what the task in its place carried over from the previous step."""

    task: PyTree
    carry: PyTree


TaskLoss = Callable[[PyTree, PyTree, PyTree, Key], tuple[Array, Report]]
"""``(params, state, task, key) -> (loss, report)``; see :class:`Objective`."""

Loss = Callable[[Array, Array, Array], Array]
"""``(outputs [n, ...], y [n, ...], mask [n]) -> scalar``, the mean over examples with mask 1."""

Sampler = Callable[[PyTree, Key], Any]
"""``(data, key) -> task``, pure; ``data`` is a pytree of arrays (empty for generated tasks)."""

Augment = Callable[[Key, PyTree], PyTree]
"""``(key, x) -> x``, a random augmentation that keeps label, structure, shape and type."""


class Source(NamedTuple):
    """A distribution of tasks.

    Attributes:
      data: arrays on the device, passed to the samplers so that they never become constants of a
        compiled program.
      episodes: ``(ways, shots, queries, max_ways=None, max_shots=None) -> Sampler`` of
        :class:`Episode`, with further options if there are classes
        (:func:`jaxmeta.data.class_source`). Like ``batches`` and ``instances``, it raises
        ``ValueError`` when the data cannot fill such a task.
      batches: ``(size) -> Sampler`` of ordinary :class:`Batch` es, labeled by each example's class
        among all classes of the source; ``None`` if there are no classes. With several tasks, it
        also takes an ``exponent``.
      instances: ``(ways, shots, queries) -> Sampler`` of :class:`Episode` whose ways are single
        examples, each repeated ``shots + queries`` times, for unsupervised meta-learning;
        ``None`` if there are no fixed examples.
      classes: the number of classes among the labels of ``batches``; ``None`` if there are no
        classes.
      whole: a sampler that always draws all examples, class by class, in one :class:`Batch` labeled
        like those of ``batches``, or of several tasks in turn all of each; ``None`` if there are no
        fixed examples.
      relabeled: ``(labels [n]) -> Source`` of the same examples in other classes. The labels, in
        the order of ``data.examples``, count from 0; -1 leaves an example out. ``None`` if the
        data are not fixed examples in memory.
      tasks: the number of tasks, if there are several with labels of their own; see
        :func:`jaxmeta.data.task_source`.
    """

    data: PyTree
    episodes: Callable[..., Sampler]
    batches: Callable[..., Sampler] | None = None
    instances: Callable[[int, int, int], Sampler] | None = None
    classes: int | None = None
    whole: Sampler | None = None
    relabeled: Callable[[Any], "Source"] | None = None
    tasks: int | None = None
