#!/usr/bin/env bash
# Builds the documentation into docs/_build and runs its code blocks, which read runs/quickstart.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh
use_venv dev
[ -f runs/quickstart/result.json ] || scripts/quickstart.sh
sphinx-build -q -W --keep-going -b html docs docs/_build
python -m pytest -q README.md docs
