"""Two data sets of the same classes as one: a labeled source, and a target without labels."""

from collections.abc import Mapping
from typing import NamedTuple

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
        hyper-parameters without labels;
      - ``test``: the test examples of the target.

    Raises:
      ValueError: the domains differ in their number of classes, or have no fixed examples.

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
    here, there = source["train"], target["train"]
    draw_here, draw_there, held_out = here.batches, there.batches, target["valid"]
    if draw_here is None or draw_there is None or held_out.whole is None:
        raise ValueError("A domain has no fixed examples with classes: give data sets that have.")
    if here.classes != there.classes:
        raise ValueError(
            f"The source has {here.classes} classes and the target {there.classes}: give domains "
            "of the same classes."
        )

    def batches(size: int) -> Sampler:
        both = {"source": draw_here(size), "target": without_labels(draw_there(size))}
        draw = paired(both)
        return lambda data, key: draw(data._asdict(), key)

    def episodes(*given: int, **options: int) -> Sampler:
        draw = here.episodes(*given, **options)
        return lambda data, key: draw(data.source, key)

    train = Source(Domains(here.data, there.data), episodes, batches, classes=here.classes)
    return {
        "train": train,
        "valid": source["valid"],
        "unlabeled": held_out._replace(whole=without_labels(held_out.whole)),
        "test": target["test"],
    }
