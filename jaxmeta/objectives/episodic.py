"""From a Learner to an Objective: adapt on the support set, be judged on the query set."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxmeta.types import Array, Aux, Episode, Key, Learner, Loss, Metrics, Objective, PyTree


def episodic(
    learner: Learner,
    loss: Loss,
    metrics: Mapping[str, Loss] | None = None,
    decay: float = 0.9,
) -> Objective:
    r"""The query loss after adaptation, one for each task of a meta-batch.

    .. math:: \ell_i = L\big(\mathrm{predict}(\mathrm{adapt}(\text{support}_i), x_i),\, y_i\big)

    Args:
      learner: solves one task; it is mapped over the tasks here.
      loss: the loss of the query set.
      metrics: further figures of the query set to report, by name.
      decay: of the running averages in ``state``: each call moves them by ``1 - decay`` towards the
        mean over tasks of the statistics that normalised the query sets.

    Returns:
      An objective over episodes ``[k, ...]``; it reports the means over tasks of ``loss``, of
      ``metrics``, and of what the learner reports of its adaptation.

    Raises:
      ValueError: the shapes of the support and query examples differ.
    """

    def task(
        params: PyTree, state: PyTree, episode: Episode, key: Key
    ) -> tuple[Array, PyTree, Metrics]:
        adapt_key, predict_key = jax.random.split(key)
        adapted, reported = learner.adapt(params, state, episode.support, adapt_key)
        query = episode.query
        outputs, used = learner.predict(params, state, adapted, query.x, query.mask, predict_key)
        value = loss(outputs, query.y, query.mask)
        figures = {
            name: figure(outputs, query.y, query.mask) for name, figure in (metrics or {}).items()
        }
        return value, used, {**reported, **figures, "loss": value}

    def objective(params: PyTree, state: PyTree, episodes: Episode, keys: Key) -> tuple[Array, Aux]:
        check_episode(episodes)
        if keys.shape[0] == 1:
            # An axis of one keeps XLA from fusing what it fuses without.
            alone = task(params, state, *jax.tree.map(lambda leaf: leaf[0], (episodes, keys)))
            losses, used, figures = jax.tree.map(lambda leaf: leaf[None], alone)
        else:
            losses, used, figures = jax.vmap(task, in_axes=(None, None, 0, 0))(
                params, state, episodes, keys
            )
        new_state = jax.tree.map(
            lambda old, new: decay * old + (1 - decay) * jnp.mean(new, axis=0), state, used
        )
        figures = jax.tree.map(lambda values: jnp.mean(values, axis=0), figures)
        return losses, jax.lax.stop_gradient(Aux(new_state, figures))

    return objective


def check_episode(episodes: Episode) -> None:
    """Raises ``ValueError`` when support and query examples of ``[k, n, ...]`` differ in shape."""
    support, query = (
        jax.tree.map(lambda leaf: leaf.shape[2:], batch.x)
        for batch in (episodes.support, episodes.query)
    )
    if support != query:
        raise ValueError(
            f"Support examples have shape {support} but query examples have shape {query}: an "
            "episode needs both alike."
        )
