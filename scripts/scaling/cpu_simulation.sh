#!/usr/bin/env bash
# Trains in several processes of this machine, each with several simulated devices of its CPU:
#
#   scripts/scaling/cpu_simulation.sh PROCESSES DEVICES --config=FILE --workdir=DIR [...]
#
# The arguments from the third on go to experiments.train. When one process fails, the others are
# killed; SIGINT and SIGTERM are passed on, so that they save and stop.
set -euo pipefail
if [[ ! "${1:-} ${2:-}" =~ ^[1-9][0-9]*\ [1-9][0-9]*$ ]]; then
  echo "Error: give the number of processes and of devices of each, as in '2 4 --config=...'." >&2
  exit 1
fi
cd "$(dirname "$0")/../.."
. scripts/venv.sh
use_venv

processes=$1
export JAX_PLATFORMS=cpu
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$2"
shift 2
[ "$processes" -gt 1 ] || exec python -m experiments.train "$@"
free_port='import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])'
port=$(python -c "$free_port")

# Each process is a group of its own, which a keyboard's interrupt does not reach: we pass it on.
set -m
started=() stopping=
trap 'stopping=yes; kill -TERM "${started[@]}" 2>/dev/null || true' INT TERM
for ((process = 0; process < processes; process++)); do
  python -m experiments.train --coordinator="127.0.0.1:$port" --processes="$processes" \
    --process="$process" "$@" </dev/null &
  started+=($!)
done

status=0
while true; do
  code=0
  wait -n || code=$?
  [ "$code" -ne 127 ] || break # nothing is left to wait for
  if [ "$code" -ne 0 ] && [ "$status" -eq 0 ]; then
    status=$code
    if [ -z "$stopping" ]; then
      echo "A process failed with status $code: stopping the others." >&2
      kill -KILL "${started[@]}" 2>/dev/null || true
    fi
  fi
done
exit "$status"
