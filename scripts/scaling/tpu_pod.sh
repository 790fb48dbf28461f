#!/usr/bin/env bash
# Trains on a slice of a TPU pod:
#
#   scripts/scaling/tpu_pod.sh create   # asks for a slice and waits until it is there
#   scripts/scaling/tpu_pod.sh install  # puts what is committed here on every worker
#   scripts/scaling/tpu_pod.sh start --config=FILE --workdir=DIR [...]
#   scripts/scaling/tpu_pod.sh watch    # follows the output of worker 0
#   scripts/scaling/tpu_pod.sh stop     # lets all workers save and stop
#   scripts/scaling/tpu_pod.sh resume --config=FILE --workdir=DIR [...]  # on a new slice
#   scripts/scaling/tpu_pod.sh delete
#
# TPU (its name), ZONE, ACCELERATOR, RUNTIME and CAPACITY (spot, guaranteed or reserved) say which
# slice, SHARE which NFS export is mounted on every worker, under /mnt/share.
set -euo pipefail
cd "$(dirname "$0")/../.."
TPU=${TPU:-jaxmeta}
ZONE=${ZONE:-europe-west4-b}
ACCELERATOR=${ACCELERATOR:-v5litepod-32}
RUNTIME=${RUNTIME:-v2-alpha-tpuv5-lite}
CAPACITY=${CAPACITY:-spot}

on_every_worker() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

create() {
  local state=
  gcloud compute tpus queued-resources create "$TPU" --node-id="$TPU" --zone="$ZONE" \
    --accelerator-type="$ACCELERATOR" --runtime-version="$RUNTIME" "--$CAPACITY"
  until [ "$state" = ACTIVE ]; do
    sleep 30
    state=$(gcloud compute tpus queued-resources describe "$TPU" --zone="$ZONE" \
      --format='value(state.state)')
    echo "$TPU is $state."
    if [[ $state =~ FAILED|SUSPEND ]]; then
      echo "Error: the request came to nothing: delete it, and create it anew." >&2
      exit 1
    fi
  done
}

install() {
  local archive share=${SHARE:?is not set: name an NFS export, as in SHARE=10.0.0.2:/share}
  archive=$(mktemp)
  git archive --output="$archive" --format=tar HEAD
  gcloud compute tpus tpu-vm scp "$archive" "$TPU:jaxmeta.tar" --zone="$ZONE" --worker=all
  rm "$archive"
  # The workers' own Python is older than ours; uv brings one.
  on_every_worker "set -e
    sudo apt-get -qq update
    sudo DEBIAN_FRONTEND=noninteractive apt-get -qq install nfs-common
    sudo mkdir -p /mnt/share
    mountpoint -q /mnt/share || sudo mount -t nfs '$share' /mnt/share
    mkdir -p jaxmeta
    tar -xf jaxmeta.tar -C jaxmeta
    curl -LsSf https://astral.sh/uv/install.sh | sh
    ~/.local/bin/uv python install 3.12
    cd jaxmeta
    PYTHON=\$(~/.local/bin/uv python find --managed-python 3.12)
    export PYTHON
    bash -c 'set -e; . scripts/venv.sh; use_venv tpu'"
}

start() {
  # The arguments, quoted once more, for the workers' shells.
  local arguments
  arguments=$(printf ' %q' "$@")
  on_every_worker "cd jaxmeta
    JAX_PLATFORMS=tpu,cpu nohup .venv/bin/python -m experiments.train --distributed$arguments \
      >train.log 2>&1 </dev/null &
    echo \$! >train.pid"
}

watch() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=0 \
    --command='tail -n 50 -F jaxmeta/train.log'
}

stop() {
  on_every_worker "kill -TERM \$(cat jaxmeta/train.pid)"
}

delete() {
  gcloud compute tpus queued-resources delete "$TPU" --zone="$ZONE" --force --quiet
}

resume() {
  delete
  create
  install
  start "$@"
}

case ${1:-} in
  create | install | start | watch | stop | resume | delete) "$@" ;;
  *)
    echo "Error: '${1:-}' is none of create, install, start, watch, stop, resume, delete." >&2
    exit 1
    ;;
esac
