#!/usr/bin/env bash
# Trains and evaluates every config but the quickstart for a few steps. Real data are read from
# $JAXMETA_DATA_DIR, else from ../shared/data; a config whose data are absent is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh
use_venv

if [ -z "${JAXMETA_DATA_DIR:-}" ] && [ -d ../shared/data ]; then
  JAXMETA_DATA_DIR=$(cd ../shared/data && pwd)
  export JAXMETA_DATA_DIR
fi
# Four steps are compiled in minutes and run in seconds, so this is as the tests compile.
XLA_FLAGS="${XLA_FLAGS:-} $(python -c 'from tests.quick import QUICK; print(QUICK)')"
export XLA_FLAGS
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
export out

smoke() {
  local config=$1 name data='' options=() began=$SECONDS
  name=$(basename "$config" .py)
  case $name in
    cactus*) # its argument is a file of classes; these of 22,000 drawings stand for clusters
      python -c "import numpy; numpy.save('$out/clusters.npy', numpy.arange(22_000) % 500)"
      config=$config:$out/clusters.npy
      ;;
    hallucination) # these stand for the features of a run
      python -c "import numpy as np; x = np.random.default_rng(0).uniform(size=(200, 8)); y = np.arange(200) % 8
np.savez('$out/features.npz', **{f'{s}_x': x for s in ('train', 'valid', 'test')}, **{f'{s}_y': y for s in ('train', 'valid', 'test')})"
      options=("--config.data.path=$out/features.npz")
      ;;
  esac
  case $name in # <method>_<data>
    *omniglot*) data=omniglot ;;
    *cifar* | *fc100*) data=cifar100 ;;
    *fewrel*) data=fewrel ;;
    *mnist*) data=mnist ;; # and USPS and photographs, beside it
    *review*) data=fdu_mtl ;;
    huffpost* | reuters* | banking* | clinc*) data=fewshot_text ;;
    *texts*) # stands for a user's own
      data=fewshot_text
      options=(
        "--config.data.path=${JAXMETA_DATA_DIR:-}/fewshot_text/banking77_train.csv.gz"
        --config.data.label=category
        "--config.data.vectors=${JAXMETA_DATA_DIR:-}/glove/glove.6B.50d.part.npy"
      )
      ;;
    *folder*) # stands for a user's own
      data=cifar100
      options=("--config.data.path=${JAXMETA_DATA_DIR:-}/cifar100/cifar_fs_test.zip")
      ;;
  esac
  if [ -n "$data" ] && [ ! -d "${JAXMETA_DATA_DIR:-nowhere}/$data" ]; then
    echo "SKIPPED $name: JAXMETA_DATA_DIR='${JAXMETA_DATA_DIR:-}' holds no folder '$data'"
    return
  fi
  if python -m experiments.train --config="$config" --workdir="$out/$name" --config.steps=4 \
    --config.log_every=2 --config.evaluation.every=2 --config.evaluation.episodes=8 \
    --config.evaluation.validation_episodes=8 "${options[@]}" >"$out/$name.log" 2>&1 </dev/null; then
    echo "PASSED $name in $((SECONDS - began)) s"
  else
    cat "$out/$name.log"
    echo "FAILED $name"
    return 1
  fi
}
export -f smoke

# Two at a time: most of a run is work for one core. What the configs share is none itself, and
# quickstart.sh runs its own to the end.
grep -l '^def get_config' experiments/configs/*.py | grep -v quickstart | xargs -P 2 -I{} bash -c 'smoke {}'
