#!/usr/bin/env bash
# Checks style, format and types.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh
use_venv dev
ruff check
ruff format --check
mypy
