"""Counts against those made by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from benchmarks.flops import count
from benchmarks.implementations.jaxmeta import make_arguments
from benchmarks.problem import Problem, make_data
from benchmarks.reference import useful_flops
from jaxmeta.types import Array

A, B = jnp.ones((3, 4)), jnp.ones((4, 5))
PRODUCT = 2 * 3 * 4 * 5
IMAGES, KERNEL = jnp.ones((2, 6, 6, 3)), jnp.ones((3, 3, 3, 8))
CONVOLUTION = 2 * (2 * 6 * 6 * 8) * (3 * 3 * 3)


def convolve(images: Array, kernel: Array) -> Array:
    return jax.lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def total(function, *arguments):
    return count(jax.make_jaxpr(function)(*arguments))


def test_a_product_of_matrices():
    assert total(jnp.matmul, A, B) == PRODUCT
    assert total(jnp.matmul, jnp.stack([A] * 7), jnp.stack([B] * 7)) == 7 * PRODUCT


def test_products_with_vectors_are_sums():
    assert total(jnp.matmul, A[0], B) == total(jnp.matmul, A, B[:, 0]) == 0
    assert total(jax.vmap(jnp.outer), A, A) == 0
    assert total(jax.vmap(jnp.matmul), A, jnp.stack([B] * 3)) == 0


def test_a_convolution():
    assert total(convolve, IMAGES, KERNEL) == CONVOLUTION


def test_the_gradient_of_a_convolution_is_two_more():
    gradient = jax.grad(lambda *both: jnp.sum(convolve(*both) ** 2), argnums=(0, 1))
    assert total(gradient, IMAGES, KERNEL) == 3 * CONVOLUTION


@pytest.mark.parametrize("differentiate", [False, True], ids=["forward", "gradient"])
def test_a_grouped_convolution_counts_as_its_groups(differentiate: bool):
    function = convolve
    if differentiate:
        function = jax.grad(lambda *both: jnp.sum(convolve(*both) ** 2), argnums=(0, 1))
    several = (jnp.stack([IMAGES] * 5), jnp.stack([KERNEL] * 5))
    assert total(jax.vmap(function), *several) == 5 * total(function, IMAGES, KERNEL)


def test_a_scan_counts_as_often_as_it_runs():
    def step(carry: Array, _: None) -> tuple[Array, None]:
        return carry @ jnp.ones((4, 4)), None

    assert total(lambda a: jax.lax.scan(step, a, length=6), A) == 6 * 2 * 3 * 4 * 4


def test_a_branch_counts_as_its_longest_arm():
    def choose(yes: Array) -> Array:
        return jax.lax.cond(yes, lambda: A @ B, lambda: A @ B @ jnp.ones((5, 5)))

    assert total(choose, jnp.array(True)) == PRODUCT + 2 * 3 * 5 * 5


def test_a_while_loop_has_no_count():
    with pytest.raises(ValueError, match="A while loop has no known number of rounds: write it"):
        total(partial(jax.lax.while_loop, lambda a: jnp.sum(a) > 0, lambda a: a - 1), A)


def test_calls_are_looked_into():
    @jax.custom_jvp
    def by_jvp(a: Array) -> Array:
        return a @ B

    @jax.custom_vjp
    def by_vjp(a: Array) -> Array:
        return a @ B

    by_jvp.defjvp(lambda primals, tangents: (by_jvp(*primals), tangents[0] @ B))
    by_vjp.defvjp(lambda a: (a @ B, None), lambda _, g: (g @ B.T,))
    assert total(jax.jit(jnp.matmul), A, B) == PRODUCT
    assert total(by_jvp, A) == PRODUCT
    assert total(by_vjp, A) == PRODUCT
    # Forward, forward again, and the gradient of one side.
    rematerialized = jax.grad(lambda a: jnp.sum(jnp.sin(jax.checkpoint(jnp.sin)(a @ B))))
    assert total(rematerialized, A) == 2 * PRODUCT


def test_a_whole_perceptron():
    problem = Problem(model="mlp", ways=1, shots=3, queries=4, tasks=5, inner_steps=0)
    arguments = make_arguments(problem, make_data(problem))
    layers = (1 * 40, 40 * 40, 40 * 1)
    # Forward, gradients of all kernels, gradients of all inputs but the first.
    assert useful_flops(problem, arguments) == 2 * 5 * 4 * (2 * sum(layers) + sum(layers[1:]))
