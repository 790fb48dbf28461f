#!/usr/bin/env bash
# Installs jaxmeta and the developer's tools into .venv and runs the tests on all cores. Arguments go
# to pytest: scripts/test.sh tests/nn, scripts/test.sh -m slow.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh
use_venv dev
exec python -m pytest -n auto --dist loadgroup "$@"
