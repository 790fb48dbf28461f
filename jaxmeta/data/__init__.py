"""Sources of tasks: episodes as pure functions of ``(data, key)``.

A data set is a function that returns the sources ``train``, ``valid`` and ``test``.
"""

from jaxmeta.data.augment import (
    composed,
    crop_and_mirror,
    drop_pixels,
    erase,
    mirror,
    resized_crop,
    shift,
    sometimes,
    unchanged,
)
from jaxmeta.data.batches import make_batch, make_episode, make_inputs
from jaxmeta.data.choices import Choice
from jaxmeta.data.cifar import cifar100_tasks, cifar_fs, fc100
from jaxmeta.data.clinc150 import clinc150_tasks
from jaxmeta.data.color import (
    blur,
    brightness,
    color_jitter,
    contrast,
    gray,
    hue,
    saturation,
    simclr_augmentation,
    solarize,
)
from jaxmeta.data.combine import (
    Drawn,
    beside,
    mixture,
    paired,
    without_labels,
    without_support,
)
from jaxmeta.data.decode import decode_inputs, decode_rotated_image
from jaxmeta.data.digits import mnist, mnist_m, usps
from jaxmeta.data.domain_shift import domain_shift, with_unlabeled
from jaxmeta.data.episodes import array_source, class_source
from jaxmeta.data.feature_file import features
from jaxmeta.data.fewrel import fewrel
from jaxmeta.data.gaussians import gaussians
from jaxmeta.data.glyphs import glyphs
from jaxmeta.data.harmful import beside_harmful, harmful_classes
from jaxmeta.data.held_out import held_out_task
from jaxmeta.data.images import folder, load_images
from jaxmeta.data.linear_labels import harmful_labels, linear_labels
from jaxmeta.data.many_tasks import adapted_tasks, splits_to_adapt, task_source
from jaxmeta.data.multi_mnist import multi_mnist
from jaxmeta.data.omniglot import omniglot
from jaxmeta.data.placed import PlacedSampler
from jaxmeta.data.pseudo_labels import pseudo_labeled
from jaxmeta.data.quadratics import quadratics
from jaxmeta.data.relabeled import fewer_examples, shuffled_labels
from jaxmeta.data.reviews import review_domains, review_shift, review_tasks, reviews
from jaxmeta.data.sinusoid import sinusoid
from jaxmeta.data.streaming import StreamedSampler, stream, streamed_source
from jaxmeta.data.texts import short_texts, texts
from jaxmeta.data.words import (
    Vocabulary,
    looked_up,
    read_vectors,
    token_ids,
    tokenize,
    vocabulary,
)

__all__ = [
    "Choice",
    "Drawn",
    "PlacedSampler",
    "StreamedSampler",
    "Vocabulary",
    "adapted_tasks",
    "array_source",
    "beside",
    "beside_harmful",
    "blur",
    "brightness",
    "cifar100_tasks",
    "cifar_fs",
    "class_source",
    "clinc150_tasks",
    "color_jitter",
    "composed",
    "contrast",
    "crop_and_mirror",
    "decode_inputs",
    "decode_rotated_image",
    "domain_shift",
    "drop_pixels",
    "erase",
    "fc100",
    "features",
    "fewer_examples",
    "fewrel",
    "folder",
    "gaussians",
    "glyphs",
    "gray",
    "harmful_classes",
    "harmful_labels",
    "held_out_task",
    "hue",
    "linear_labels",
    "load_images",
    "looked_up",
    "make_batch",
    "make_episode",
    "make_inputs",
    "mirror",
    "mixture",
    "mnist",
    "mnist_m",
    "multi_mnist",
    "omniglot",
    "paired",
    "pseudo_labeled",
    "quadratics",
    "read_vectors",
    "resized_crop",
    "review_domains",
    "review_shift",
    "review_tasks",
    "reviews",
    "saturation",
    "shift",
    "short_texts",
    "shuffled_labels",
    "simclr_augmentation",
    "sinusoid",
    "solarize",
    "sometimes",
    "splits_to_adapt",
    "stream",
    "streamed_source",
    "task_source",
    "texts",
    "token_ids",
    "tokenize",
    "unchanged",
    "usps",
    "vocabulary",
    "with_unlabeled",
    "without_labels",
    "without_support",
]
