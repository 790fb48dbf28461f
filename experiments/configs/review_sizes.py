"""Reviews of 16 domains, of which one has 20 training texts and one 1,070.

Command: python -m experiments.evenness --data=review_sizes --workdir=DIR --data_dir=DATA
"""

from . import evenness

PROBLEM = evenness.Problem(
    data={
        "make": "jaxmeta.data.review_tasks",
        "vectors": "glove/glove.6B.50d.part.npy",
        "length": 64,
        "leaked": False,
    },
    # A geometric sequence, up to what every domain has without the rows that leak into its test.
    sizes=(20, 26, 34, 44, 58, 76, 98, 128, 168, 218, 284, 370, 482, 630, 820, 1070),
    classes=2,
    features={"make": "jaxmeta.nn.sentence_cnn", "filters": 50},
    budget=256_000,
    adaptations=(25, 100, 300),
    batch=32,
    learning_rate=1e-3,
    outer_rate=3e-3,
    rotated=3,
)
