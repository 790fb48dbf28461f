"""This library, of views that the step itself makes by SimCLR's random changes."""

from functools import partial

from benchmarks.two_views import jaxmeta

build = partial(jaxmeta.build, augment=True)
