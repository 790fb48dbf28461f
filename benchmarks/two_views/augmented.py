"""This library, with views that the step itself makes by SimCLR's augmentation."""

from functools import partial

from benchmarks.two_views import jaxmeta

build = partial(jaxmeta.build, augment=True)
