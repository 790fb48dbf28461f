"""Chunks, devices and processes: where the tasks of a step are computed."""
