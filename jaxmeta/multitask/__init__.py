"""Multi-task learning: how tasks share a network, as models over inputs that name their task."""

from jaxmeta.multitask.attention import task_attention
from jaxmeta.multitask.cross_stitch import cross_stitch
from jaxmeta.multitask.experts import gated_experts
from jaxmeta.multitask.hard_sharing import hard_sharing
from jaxmeta.multitask.heads import with_heads
from jaxmeta.multitask.hierarchical import hierarchical
from jaxmeta.multitask.objective import by_uncertainty, multitask
from jaxmeta.multitask.one_network import one_network
from jaxmeta.multitask.per_task import columns, per_task, statistics_per_task
from jaxmeta.multitask.shared_private import adversarial_sharing, orthogonality, shared_private

__all__ = [
    "adversarial_sharing",
    "by_uncertainty",
    "columns",
    "cross_stitch",
    "gated_experts",
    "hard_sharing",
    "hierarchical",
    "multitask",
    "one_network",
    "orthogonality",
    "per_task",
    "shared_private",
    "statistics_per_task",
    "task_attention",
    "with_heads",
]
