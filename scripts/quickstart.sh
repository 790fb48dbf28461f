#!/usr/bin/env bash
# Installs jaxmeta into .venv, trains on generated images, prints the accuracy. Arguments go to
# experiments.train.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh
use_venv
exec python -m experiments.train --config=experiments/configs/quickstart.py \
  --workdir=runs/quickstart "$@"
