#!/usr/bin/env bash
# What a GPU says of this program: first whether its pictures are right, then how fast they come; one table last.
# Under six minutes on an H100, without a network, from a plain copy of the repository (README.md says what it needs).
#   PYTHON   the interpreter [python3]
#   OUT      a folder for what was printed and measured [a temporary one]
#   SECONDS_IN_ALL  after so long nothing further begins [340]
# The variables of `tests/bench/_device/plan.py` choose what is measured.  Exits with 1 where a test failed.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1

python=${PYTHON:-python3}
out=${OUT:-$(mktemp -d)}
all=${SECONDS_IN_ALL:-340}
mkdir -p "$out"
left() { echo $((all - SECONDS)); }
title() { printf '\n== %s (after %d s)\n' "$1" "$SECONDS"; }

# xformers' wheel is linked against the runtime of CUDA 12, which the package nvidia-cuda-runtime-cu12 has; torch brings 13's.
IFS=: read -ra places <<<"${PYTHONPATH:-}"
for place in ${places[@]+"${places[@]}"}; do
    if [ -e "$place/nvidia/cuda_runtime/lib/libcudart.so.12" ]; then
        export LD_LIBRARY_PATH="$place/nvidia/cuda_runtime/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    fi
done
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}  # the tests take one thread where nothing is said

title device
"$python" - <<'PYTHON' | tee "$out/device.txt"
import platform
import torch
if torch.cuda.is_available():
    card = torch.cuda.get_device_properties(0)
    said = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, compute capability {card.major}.{card.minor}, CUDA {torch.version.cuda}"
else:
    said = "no GPU: everything on the CPU, with narrow networks, to try this script"
print(f"{said}; torch {torch.__version__}, Python {platform.python_version()}")
PYTHON
if grep -q '^no GPU' "$out/device.txt"; then
    export TEST_DEVICE=${TEST_DEVICE:-cpu} ATELIER_BENCH_NARROW=${ATELIER_BENCH_NARROW:-1}
fi

title 'pictures against those of a CPU'
failed=0
timeout $((all * 45 / 100)) "$python" -m pytest tests/gpu -p no:cacheprovider --durations=3 2>&1 | tee "$out/tests.txt" || {
    [ "${PIPESTATUS[0]}" -ne 124 ] || echo "ended after $((all * 45 / 100)) s, unfinished" | tee -a "$out/tests.txt"
    failed=1
}

if "$python" -m modules.cli doctor --help 2>/dev/null | grep -q -- --check; then
    title 'doctor --check'
    # Not a verdict here: packages that serve the page are missing on such a machine, and the doctor says so
    timeout 60 "$python" -m modules.cli doctor --check 2>&1 | tee "$out/doctor.txt" || true
fi

title 'measuring'
: >"$out/figures.jsonl"
limit=$(left)
ATELIER_BENCH_SECONDS=${ATELIER_BENCH_SECONDS:-$((limit < 240 ? limit - 20 : 220))} \
    timeout $((limit > 30 ? limit + 15 : 30)) "$python" -m tests.bench device --save "$out/figures.jsonl" 2>"$out/errors.txt" | tee "$out/figures.txt"
[ "${PIPESTATUS[0]}" -eq 0 ] || { echo "measuring ended early:"; tail -5 "$out/errors.txt"; failed=1; }

title 'table'
cat "$out/device.txt"
echo "tests: $(tail -1 "$out/tests.txt")"
"$python" -m tests.bench._device.table "$out/figures.jsonl"
exit $failed
