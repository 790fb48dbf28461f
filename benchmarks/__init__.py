"""Benchmarks: time and memory of meta-gradients, of this library and of others."""
