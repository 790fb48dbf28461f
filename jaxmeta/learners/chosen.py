"""A learner chosen for each task, by cross-validation on its support set."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmeta.checks import check_count
from jaxmeta.learners.frames.support import check_ways, labeled, membership
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

    Adapting costs ``folds + 1`` times what all learners cost. They share the network, ``"model"``,
    such as one that another run has trained. A class of which one example is there has no say, and
    if nothing can be held out, the first learner predicts.

    Args:
      learners: two or more, of the same network.
      ways: largest number of classes.
      folds: F, at most as many as there are examples of a class.
      loss: what held-out predictions are judged by.

    Returns:
      A learner with parameters ``{"model", "own"}``, where ``"own"`` is what each learner has
      besides; without it, as of a run that trained features, learners have none. It reports the
      metric ``chosen``, the number of the learner.

    Raises:
      ValueError: there are fewer than two learners or folds, ``ways`` is not positive or not that
        of the learners, they are not of one network or, when adapting, the support set has fewer
        examples than ``folds`` of each way.

    >>> from jaxmeta.learners import fine_tuning, nearest_mean
    >>> from jaxmeta.nn import conv4
    >>> rates = [fine_tuning(conv4(), ways=5, learning_rate=rate) for rate in (0.001, 0.01)]
    >>> learner = chosen([nearest_mean(conv4(), ways=5), *rates], ways=5, folds=5)
    """
    check_ways(ways)
    check_count("folds", folds, least=2)
    if len(learners) < 2:
        raise ValueError(f"There are {len(learners)} learners: give two or more to choose from.")

    def init(key: Key, episode: Episode) -> tuple[PyTree, PyTree]:
        begun = [learner.init(key, episode) for learner in learners]
        (first, first_state), *_ = begun
        for number, (own, state) in enumerate(begun):
            if _shapes((own["model"], state)) != _shapes((first["model"], first_state)):
                raise ValueError(
                    f"Learner {number} has another network than learner 0: give learners of the "
                    "same one."
                )
        rest = [{name: part for name, part in own.items() if name != "model"} for own, _ in begun]
        return {"model": first["model"], "own": rest}, first_state

    def params_of(params: PyTree, number: int) -> PyTree:
        own = params["own"][number] if "own" in params else {}
        return {**own, "model": params["model"]}

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
            if logits.shape[1] != ways:
                raise ValueError(
                    f"ways is {ways}, but a learner has {logits.shape[1]}: give the same number."
                )
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
        owns = [params_of(params, number) for number in range(len(learners))]
        losses = jnp.stack(
            [
                judged(each, own, state, support, pair[0])
                for each, own, pair in zip(learners, owns, keys, strict=True)
            ]
        )
        # A learner that diverged is not the best.
        best = jnp.argmin(jnp.where(jnp.isnan(losses), jnp.inf, losses)).astype(jnp.int32)
        adapted = [
            each.adapt(own, state, support, pair[1])[0]
            for each, own, pair in zip(learners, owns, keys, strict=True)
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
            learner.predict(params_of(params, number), state, own, x, mask, key)
            for number, (learner, own) in enumerate(zip(learners, adapted.each, strict=True))
        ]
        picked: tuple[Array, PyTree] = jax.tree.map(
            lambda *leaves: jnp.take(jnp.stack(leaves), adapted.best, axis=0), *predicted
        )
        return picked

    return Learner(init, adapt, predict)


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), tree)
