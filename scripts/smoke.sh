#!/usr/bin/env bash
# Trains and evaluates every config for a few steps. Real data are read from $JAXMETA_DATA_DIR, else
# from ../shared/data; a config whose data are absent is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh
use_venv

if [ -z "${JAXMETA_DATA_DIR:-}" ] && [ -d ../shared/data ]; then
  JAXMETA_DATA_DIR=$(cd ../shared/data && pwd)
  export JAXMETA_DATA_DIR
fi
# Four steps are compiled in minutes and run in seconds: the costlier optimisations are left out.
export XLA_FLAGS="${XLA_FLAGS:-} --xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
failed=()

for config in experiments/configs/*.py; do
  grep -q '^def get_config' "$config" || continue # what the configs share
  name=$(basename "$config" .py)
  case $name in # <method>_<data>
    *omniglot*) data=omniglot ;;
    *cifar* | *fc100*) data=cifar100 ;;
    *folder*) data=cifar100 ;; # stands for a user's own
    *) data= ;;
  esac
  options=()
  if [[ $name == *folder* ]]; then
    options=("--config.data.path=${JAXMETA_DATA_DIR:-}/cifar100/cifar_fs_test.zip")
  fi
  if [ -n "$data" ] && [ ! -d "${JAXMETA_DATA_DIR:-nowhere}/$data" ]; then
    echo "SKIPPED $name: JAXMETA_DATA_DIR='${JAXMETA_DATA_DIR:-}' holds no folder '$data'"
    continue
  fi
  began=$SECONDS
  if python -m experiments.train --config="$config" --workdir="$out/$name" --config.steps=4 \
    --config.log_every=2 --config.evaluation.every=2 --config.evaluation.episodes=8 \
    --config.evaluation.validation_episodes=8 "${options[@]}" >"$out/log" 2>&1 </dev/null; then
    echo "PASSED $name in $((SECONDS - began)) s"
  else
    cat "$out/log"
    echo "FAILED $name"
    failed+=("$name")
  fi
done

if [ ${#failed[@]} -gt 0 ]; then
  echo "Failed: ${failed[*]}"
  exit 1
fi
