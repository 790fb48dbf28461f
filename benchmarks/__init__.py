"""Benchmarks: time and memory of meta-gradients in this library and in others."""
