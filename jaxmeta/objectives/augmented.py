"""Any Objective on examples that are changed at random, anew in each outer step."""

import jax

from jaxmeta.distributed import microbatches as shares
from jaxmeta.types import Array, Augment, Aux, Batch, Episode, Key, Objective, PyTree


def augmented(objective: Objective, augment: Augment) -> Objective:
    r"""The same losses, of tasks whose examples are each changed at random.

    .. math:: \ell_i\big(\theta;\; \{(a_{ij}(x_{ij}), y_{ij})\}_j\big)
              \quad \text{for} \quad \ell_i\big(\theta;\; \{(x_{ij}, y_{ij})\}_j\big)

    where the changes :math:`a_{ij}` are independent and drawn from the key of task i. Evaluation
    episodes, which no objective sees, stay as they are.

    Args:
      objective: over episodes ``[k, ...]``.
      augment: changes one example, as :func:`jaxmeta.data.crop_and_mirror` does an image.

    Returns:
      An objective over the same episodes.

    Raises:
      ValueError: when called, an example comes back in another structure, shape or type.
    """

    def change(batch: Batch, key: Key) -> Batch:
        x = jax.vmap(augment)(jax.random.split(key, batch.mask.size), batch.x)
        given, made = (
            jax.tree.map(lambda leaf: f"{leaf.dtype}{list(leaf.shape[1:])}", of)
            for of in (batch.x, x)
        )
        if given != made:
            raise ValueError(
                f"The augmentation makes {made} of an example {given}: give one that keeps its "
                "structure, shape and type."
            )
        return batch._replace(x=x)

    def on_changed(
        params: PyTree, state: PyTree, episodes: Episode, keys: Key, weights: Array | None = None
    ) -> tuple[Array, Aux]:
        def changed(episode: Episode, key: Key) -> tuple[Episode, Key]:
            support_key, query_key, key = jax.random.split(key, 3)
            support, query = episode
            return Episode(change(support, support_key), change(query, query_key)), key

        episodes, keys = jax.vmap(changed)(episodes, keys)
        return objective(params, state, episodes, keys, *shares.given(weights))

    return on_changed
