#!/usr/bin/env bash
# A disk that fills while a run saves: one clear line, older checkpoints stay good, with more space the same command ends
# with the bits of an undisturbed run. Mounts a small tmpfs, so it needs to be root: sudo bash tests/full_disk.sh
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
scratch=$(mktemp -d)
mkdir "$scratch/disk"
run() { PYTHONPATH=. "$python" -m mmkd_jax.cli run tests/tiny_experiment.py --steps 200 --seeds 1 --cached --out "$1"; }
trap 'umount "$scratch/disk" 2>/dev/null; rm -rf "$scratch"' EXIT
run "$scratch/whole" >/dev/null
for size in 60k 100k 140k 200k 300k; do
  mount -t tmpfs -o size=$size tmpfs "$scratch/disk"
  if run "$scratch/disk/run" >"$scratch/said" 2>&1; then
    echo "$size was enough: nothing shown" && exit 1
  fi
  grep -h "no space is left on the device" "$scratch/said" || { cat "$scratch/said"; exit 1; }
  mount -o remount,size=4m "$scratch/disk"
  run "$scratch/disk/run" | grep "going on" || echo "from the start"
  cmp "$scratch/whole/results.json" "$scratch/disk/run/results.json"
  for training in teacher student; do
    cmp "$scratch"/{whole,disk/run}/trainings/$training/0/variables.safetensors
  done
  umount "$scratch/disk"
done
echo "same bits after each"
