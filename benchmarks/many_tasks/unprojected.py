"""This library without surgery: the mean of the tasks' gradients."""

from functools import partial

from benchmarks.many_tasks import jaxmeta

build = partial(jaxmeta.build, surgery=False)
