#!/usr/bin/env bash
# Checks style, format and types, and every shell script.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh
use_venv dev
ruff check
ruff format --check
mypy
git ls-files -z '*.sh' '*.sbatch' .ci/run | xargs -0 shellcheck --external-sources
