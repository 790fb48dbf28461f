"""Objectives that train an embedding before it is used for few-shot tasks, and their losses."""

from jaxmeta.pretraining.barlow_twins import barlow_twins, barlow_twins_loss
from jaxmeta.pretraining.byol import byol, byol_loss
from jaxmeta.pretraining.dino import dino, dino_loss
from jaxmeta.pretraining.joint_embedding import joint_embedding
from jaxmeta.pretraining.mae import mae, mae_loss, mae_reconstruction
from jaxmeta.pretraining.masked_words import masked_words
from jaxmeta.pretraining.moco_v2 import moco_loss, moco_v2
from jaxmeta.pretraining.moco_v3 import info_nce, moco_v3
from jaxmeta.pretraining.prediction import prediction
from jaxmeta.pretraining.rotation import rotation
from jaxmeta.pretraining.simclr import simclr, simclr_loss
from jaxmeta.pretraining.simsiam import simsiam, simsiam_loss
from jaxmeta.pretraining.supcon import supcon, supcon_loss
from jaxmeta.pretraining.supervised import supervised
from jaxmeta.pretraining.teacher import Teacher, rising
from jaxmeta.pretraining.vicreg import vicreg, vicreg_loss

__all__ = [
    "Teacher",
    "barlow_twins",
    "barlow_twins_loss",
    "byol",
    "byol_loss",
    "dino",
    "dino_loss",
    "info_nce",
    "joint_embedding",
    "mae",
    "mae_loss",
    "mae_reconstruction",
    "masked_words",
    "moco_loss",
    "moco_v2",
    "moco_v3",
    "prediction",
    "rising",
    "rotation",
    "simclr",
    "simclr_loss",
    "simsiam",
    "simsiam_loss",
    "supcon",
    "supcon_loss",
    "supervised",
    "vicreg",
    "vicreg_loss",
]
