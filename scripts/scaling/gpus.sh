#!/usr/bin/env bash
# Trains on all NVIDIA GPUs of this machine, or on those of CUDA_VISIBLE_DEVICES, in one process.
# Arguments go to experiments.train; the same command resumes.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! nvidia-smi --list-gpus >&2; then
  echo "Error: nvidia-smi finds no GPU: install NVIDIA's driver." >&2
  exit 1
fi
. scripts/venv.sh
use_venv cuda
# Without a GPU that works, stop, and do not train on the CPU.
export JAX_PLATFORMS=cuda,cpu
exec python -m experiments.train "$@"
