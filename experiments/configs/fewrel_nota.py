"""FewRel 2.0, none of the above: half of the queries state a relation that no example states.

Command: python -m experiments.train --config=experiments/configs/fewrel_nota.py:METHOD \
    --workdir=DIR --data_dir=DATA
Methods: those of fewrel.py that compare, such as prototypical. The evaluation "all_known" has no
such queries.
"""

from ml_collections import ConfigDict

from . import fewrel, methods


def get_config(method: str = "prototypical") -> ConfigDict:
    config = methods.configure(fewrel.DATA, method)
    config.sample.ways = 5
    config.sample.queries = 5
    config.sample.outside = 25
    learner = config.learner
    config.learner = ConfigDict({"make": "jaxmeta.learners.rejecting", "learner": learner})
    config.evaluations = ConfigDict(
        {"trained": {"learner": {}, "outside": 75}, "all_known": {"learner": {}}},
        sort_keys=False,
    )
    return config
