"""A learner chosen for each task, by cross-validation on its support set."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.learners.frames.support import labeled, membership
from jaxmeta.losses import cross_entropy
from jaxmeta.types import Array, Batch, Episode, Key, Learner, Loss, Metrics, PyTree


class Adapted(NamedTuple):
    """Every learner adapted to the whole support set, and which of them predicts."""

    each: list[PyTree]
    best: Array


def chosen(
    learners: Sequence[Learner], ways: int, folds: int = 2, loss: Loss = cross_entropy
) -> Learner:
    r"""Tries several learners on parts of the support set, and lets the best of them predict.

    .. math:: k = \operatorname*{argmin}_j \sum_{f=1}^{F}
              L\big(\mathrm{learner}_j(\text{support} \setminus f);\, f\big)

    where fold f has every F-th example of each class. All learners are then adapted to the whole
    support set, and the chosen one predicts. They may be one method with several rates or numbers
    of steps. With one example of a class there is nothing to hold out: use this from two shots on,
    and expect little from few.

    Adapting costs ``folds + 1`` times what all learners cost. They share parameters of the same
    name, such as ``"model"``, the features that another run has trained.

    Args:
      learners: two or more, of the same network.
      ways: largest number of classes.
      folds: F, at most as many as there are examples of a class.
      loss: what held-out predictions are judged by.

    Returns:
      A learner that reports the metric ``chosen``, the number of the learner.

    Raises:
      ValueError: there are fewer than two learners or folds, they are not of one network or, when
        adapting, a class has fewer examples than there are folds.

    >>> from jaxmeta.learners import fine_tuning, nearest_mean
    >>> from jaxmeta.nn import conv4
    >>> rates = [fine_tuning(conv4(), ways=5, learning_rate=rate) for rate in (0.001, 0.01)]
    >>> learner = chosen([nearest_mean(conv4(), ways=5), *rates], ways=5, folds=5)
    """
    check_count("folds", folds, least=2)
    if len(learners) < 2:
        raise ValueError(f"There are {len(learners)} learners: give two or more to choose from.")

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        begun = [learner.init(key, episode) for learner in learners]
        params: dict[str, PyTree] = {}
        for number, (own, state) in enumerate(begun):
            for name, part in own.items() if isinstance(own, dict) else ():
                if _shapes(params.setdefault(name, part)) != _shapes(part):
                    raise ValueError(
                        f"Learner {number} has other parameters '{name}' than one before it: give "
                        "learners of the same network."
                    )
            if _shapes(state) != _shapes(begun[0][1]):
                raise ValueError(
                    f"Learner {number} has another state than learner 0: give learners of the same "
                    "network."
                )
        return params, begun[0][1]

    def judged(learner: Learner, params: PyTree, state: PyTree, support: Batch, key: Key) -> Array:
        """The held-out loss of a learner, summed over the folds."""
        member = membership(support, ways)
        rank = jnp.sum((jnp.cumsum(member, axis=0) - 1) * member, axis=1).astype(jnp.int32)
        real = labeled(support)

        def of_fold(fold: Array) -> Array:
            held = real * (rank % folds == fold).astype(real.dtype)
            kept = support._replace(mask=support.mask - held)
            adapted, _ = learner.adapt(params, state, kept, jax.random.fold_in(key, fold))
            logits, _ = learner.predict(params, state, adapted, support.x, held)
            # A class whose only example is held out cannot be predicted by any learner.
            known = member @ jnp.any(membership(kept, ways) > 0, axis=0).astype(member.dtype)
            return loss(logits, support.y, held * known)

        return jnp.sum(jax.lax.map(of_fold, jnp.arange(folds)))

    def adapt(params: PyTree, state: PyTree, support: Batch, key: Key) -> tuple[Adapted, Metrics]:
        if support.y.shape[0] < folds * ways:
            raise ValueError(
                f"The support set has {support.y.shape[0]} examples of {ways} classes, and {folds} "
                f"folds need {folds} of each: give more examples, or fewer folds."
            )
        keys = jax.random.split(key, (len(learners), 2))
        losses = [
            judged(each, params, state, support, own[0])
            for each, own in zip(learners, keys, strict=True)
        ]
        best = jnp.argmin(jnp.stack(losses)).astype(jnp.int32)
        adapted = [
            each.adapt(params, state, support, own[1])[0]
            for each, own in zip(learners, keys, strict=True)
        ]
        return Adapted(adapted, best), {"chosen": best.astype(jnp.float32)}

    def predict(
        params: PyTree,
        state: PyTree,
        adapted: Adapted,
        x: PyTree,
        mask: Array | None = None,
        key: Key | None = None,
    ) -> tuple[Array, PyTree]:
        predicted = [
            learner.predict(params, state, own, x, mask, key)
            for learner, own in zip(learners, adapted.each, strict=True)
        ]
        picked: tuple[Array, PyTree] = jax.tree.map(
            lambda *leaves: jnp.take(jnp.stack(leaves), adapted.best, axis=0), *predicted
        )
        return picked

    return Learner(init, adapt, predict)


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)
