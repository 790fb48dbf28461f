"""Every implementation computes the same meta-gradient."""

import dataclasses
import functools
import warnings

import pytest

from benchmarks.implementations import build, jaxmeta, rivals
from benchmarks.problem import Arrays, Data, Problem, make_data, relative_difference
from benchmarks.timing import TOLERANCE

XLA = "xla_convolution"
IMAGES = Problem(ways=3, queries=2, tasks=2, inner_steps=2, filters=4, image_size=16)
WAVES = Problem(model="mlp", ways=1, shots=5, queries=4, tasks=3, learning_rate=0.01)
PROBLEMS = {
    # 32 pixels leave two by two, so that the order in which they are flattened matters.
    "maml": dataclasses.replace(IMAGES, image_size=32),
    "protonet": dataclasses.replace(IMAGES, learner="protonet", shots=2),
    "sinusoid": WAVES,
    "sinusoid, first order": dataclasses.replace(WAVES, learner="fomaml"),
}
NEEDS = {"torch": "torch", "torch_func": "torch", "torch_func_vmap": "torch"}
CASES = [
    # XLA compiles the second derivative of its convolution for ten seconds.
    pytest.param(case, name, marks=[pytest.mark.slow] * ((case, name) == ("maml", XLA)))
    for case, problem in PROBLEMS.items()
    for name in rivals(problem, None)
]


@functools.cache
def ours(case: str) -> tuple[Data, Arrays, Arrays]:
    """The data, the initial parameters, and our gradient."""
    problem = PROBLEMS[case]
    data = make_data(problem)
    parameters = jaxmeta.as_arrays(jaxmeta.make_arguments(problem, data)[0])
    implementation = build("jaxmeta", problem, data, parameters)
    return data, parameters, implementation.arrays(implementation.step())


@pytest.mark.parametrize(("case", "name"), CASES)
def test_gradients_agree(case: str, name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of others are not ours to mend
        if name != XLA:
            pytest.importorskip(NEEDS.get(name, name))
            # Threads that wait for each other are slow where tests run side by side.
            pytest.importorskip("torch").set_num_threads(1)
        data, parameters, reference = ours(case)
        implementation = build(name, PROBLEMS[case], data, parameters)
        # Twice: the second call must not start where the first one ended.
        for _ in range(2):
            gradient = implementation.arrays(implementation.step())
            assert relative_difference(gradient, reference) < TOLERANCE
