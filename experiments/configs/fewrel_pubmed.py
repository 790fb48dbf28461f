"""FewRel 2.0: learners of relations in Wikipedia, tested on those of medical articles.

Command: python -m experiments.train --config=experiments/configs/fewrel_pubmed.py:METHOD \
    --workdir=DIR --data_dir=DATA
Methods: adversarial, prototypical networks with a critic whose features are to be the same in both
domains (Gao et al., 2019, section 4.2); masked_words, which also sees the sentences of PubMed
without relations; any of fewrel.py, such as prototypical, which does not.
The checkpoint is chosen on val_semeval, a third domain.
"""

from typing import Any

from ml_collections import ConfigDict

from . import fewrel, methods

SPEC = ConfigDict(
    {
        **fewrel.DATA.spec,
        "valid": "val_semeval",
        "test": "val_pubmed",
        "length": 100,
    }
)
UNLABELED = "pubmed_unsupervised"
DATA = fewrel.DATA._replace(spec=SPEC)


def get_config(method: str = "adversarial") -> ConfigDict:
    if method in ("masked_words", "random_transformer"):  # with one vocabulary
        sentences = ConfigDict({**SPEC, "train": ["train_wiki", UNLABELED]})
        return methods.configure(DATA._replace(spec=sentences), method)
    if method != "adversarial":
        return methods.configure(DATA, method)
    beside = ConfigDict({**SPEC, "unlabeled": UNLABELED})
    config = methods.configure(DATA._replace(spec=beside), "prototypical")
    few_shot = {"make": "jaxmeta.objectives.episodic"}
    domain = {
        "make": "jaxmeta.domains.dann",
        "critic": {"make": "jaxmeta.nn.mlp", "outputs": 2, "hidden": [230, 230]},
        "how": "swap",
    }
    config.objective = ConfigDict(
        {
            "make": "jaxmeta.objectives.added",
            "objectives": {
                "few_shot": on_part(few_shot, "episode"),
                "domain": on_part(domain, "batch"),
            },
            "weights": {"domain": 1.0},
        }
    )
    config.sample = ConfigDict({"make": "jaxmeta.data.beside", "size": 50, "sample": config.sample})
    config.evaluations.trained.state = "few_shot"
    return config


def on_part(objective: dict[str, Any], part: str) -> dict[str, Any]:
    """The spec of an objective of one part of a task."""
    return {"make": "jaxmeta.objectives.on_part", "objective": objective, "part": part}
