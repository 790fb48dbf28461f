"""Domain adaptation: a labeled source domain, and a target domain without labels."""

from jaxmeta.domains.adda import adda
from jaxmeta.domains.cdan import cdan, certainty, products
from jaxmeta.domains.critic import critic_loss, rising_strength
from jaxmeta.domains.dann import dann
from jaxmeta.domains.discrepancy import coral, coral_loss, mmd, mmd_loss
from jaxmeta.domains.frame import Domain, aligned
from jaxmeta.domains.mldg import mldg
from jaxmeta.domains.reversal import reverse
from jaxmeta.domains.schedules import annealed
from jaxmeta.domains.source_only import source_only
from jaxmeta.domains.validators import mutual_information, prediction_entropy

__all__ = [
    "Domain",
    "adda",
    "aligned",
    "annealed",
    "cdan",
    "certainty",
    "coral",
    "coral_loss",
    "critic_loss",
    "dann",
    "mldg",
    "mmd",
    "mmd_loss",
    "mutual_information",
    "prediction_entropy",
    "products",
    "reverse",
    "rising_strength",
    "source_only",
]
