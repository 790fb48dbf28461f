"""Two data sets of the same classes as one: a labeled source, and a target without labels."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from jaxmeta.data.batches import described
from jaxmeta.data.combine import paired, without_labels
from jaxmeta.types import PyTree, Sampler, Source


class Domains(NamedTuple):
    """The data of two domains."""

    source: PyTree
    target: PyTree


def domain_shift(source: Mapping[str, Source], target: Mapping[str, Source]) -> dict[str, Source]:
    """Trains on one domain's labels and another's inputs, and tests on the other.

    Args:
      source: the labeled domain's ``train``, ``valid`` and ``test``; in a config, the spec of a
        data set.
      target: those of the other domain, with the same classes.

    Returns:
      Sources by the names

      - ``train``: its ``batches(size)`` draw ``{"source": Batch, "target": Batch}``, independently
        and ``size`` of each, where the labels of the target are all -1; its episodes are of the
        source;
      - ``valid``: held-out examples of the source, with labels;
      - ``unlabeled``: held-out examples of the target, whose labels are all -1, for choosing
        hyper-parameters without labels; it has no episodes;
      - ``test``: the test examples of the target.

    Raises:
      ValueError: the domains differ in their number of classes or the shape of their examples, a
        part is missing, or there are no fixed examples.

    >>> import jax
    >>> from jaxmeta.data import array_source
    >>> photo, sketch = array_source([[1.0], [2.0]], [0, 1]), array_source([[-1.0], [-2.0]], [0, 1])
    >>> photos, sketches = ({split: each for split in ("train", "valid", "test")}
    ...                     for each in (photo, sketch))
    >>> train = domain_shift(photos, sketches)["train"]
    >>> task = train.batches(2)(train.data, jax.random.key(0))
    >>> task["target"].x.shape, task["target"].y.tolist()
    ((2, 1), [-1, -1])
    """
    for name, domain in (("source", source), ("target", target)):
        missing = [part for part in ("train", "valid", "test") if part not in domain]
        if missing:
            raise ValueError(f"The {name} has no part '{missing[0]}': give a data set.")
    here, there, held_out = source["train"], target["train"], target["valid"]
    if here.classes != there.classes:
        raise ValueError(
            f"The source has {here.classes} classes and the target {there.classes}: give domains "
            "of the same classes."
        )
    train = with_unlabeled(here, there)
    if held_out.whole is None:
        raise ValueError("The target's valid split has no fixed examples: give a data set.")
    return {
        "train": train,
        "valid": source["valid"],
        "unlabeled": Source(held_out.data, _no_episodes, whole=without_labels(held_out.whole)),
        "test": target["test"],
    }


def _no_episodes(*given: Any, **options: Any) -> Sampler:
    raise ValueError("The unlabeled examples of the target have no classes to make episodes of.")


def with_unlabeled(source: Source, target: Source) -> Source:
    """A source of tasks whose batches have unlabeled ones of another domain beside them.

    Args:
      source: the labeled domain.
      target: the other one; its labels are not used.

    Returns:
      A source whose ``batches(size)`` draw ``{"source": Batch, "target": Batch}``, ``size`` of
      each, and whose episodes are those of ``source``.

    Raises:
      ValueError: a domain has no batches, or their examples differ in shape.
    """
    draw_here, draw_there = source.batches, target.batches
    if draw_here is None or draw_there is None:
        raise ValueError("A domain has no fixed examples with classes: give data sets that have.")

    shapes = [
        described(jax.eval_shape(draw(1), domain.data, jax.random.key(0)).x)
        for draw, domain in ((draw_here, source), (draw_there, target))
    ]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"Examples of the source are {shapes[0]} and those of the target {shapes[1]}: give "
            "domains of examples alike."
        )

    def batches(size: int) -> Sampler:
        draw = paired({"source": draw_here(size), "target": without_labels(draw_there(size))})
        return lambda data, key: draw(data._asdict(), key)

    def episodes(*given: Any, **options: Any) -> Sampler:
        draw = source.episodes(*given, **options)
        return lambda data, key: draw(data.source, key)

    return Source(Domains(source.data, target.data), episodes, batches, classes=source.classes)
