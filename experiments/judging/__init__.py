"""Judging the features of runs, for ``experiments.probe``."""

from .judge import chosen, judge_all, prepare
from .table import table
from .types import Prepared, Protocol, Run

__all__ = ["Prepared", "Protocol", "Run", "chosen", "judge_all", "prepare", "table"]
