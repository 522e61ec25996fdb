#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# On a machine with an NVIDIA device: builds the CUDA plugin, checks it against the reference and
# measures it, all in one run. Needs nvcc, g++ and nothing else; where the packages of packages.txt and
# CMake are there, the whole of Switchyard is built too and its conformance suite runs.
#
#   tests/gpu/run.sh [OUTPUT_DIRECTORY]        build-gpu by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=${1:-build-gpu}
mkdir -p "$out/images"
out=$(cd "$out" && pwd)
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
python=$(command -v python3)
cxx=(g++ -O2 -std=c++20 -fPIC -fvisibility=hidden -ffp-contract=off -DSWITCHYARD_VERSION='"gpu"'
  -Icore/include -Iplugins/cpu)

echo "== machine"
nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
"$nvcc" --version | tail -n 2

echo "== build"
compile() { # NAME OPTIONS...
  "$nvcc" -fatbin -std=c++20 -O3 "${@:2}" -gencode arch=compute_80,code=sm_80 \
    -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90 \
    -Iplugins/cuda -o "$out/images/$1.fatbin" "plugins/cuda/kernels/$1.cu"
}
compile exact -fmad=false &
compile attention &
wait -n && wait -n
"${cxx[@]}" -shared -Iplugins/cuda -DSY_CUDA_IMAGES="\"$out/images\"" plugins/cuda/*.cpp \
  -Wl,--version-script=cmake/plugin.map -ldl -o "$out/switchyard_cuda.so"
"${cxx[@]}" -shared -Iplugins/reference plugins/reference/*.cpp plugins/cpu/instance.cpp \
  plugins/cpu/features.cpp -Wl,--version-script=cmake/plugin.map -o "$out/switchyard_reference.so"
"${cxx[@]}" tests/gpu/gpu_bench.cpp -ldl -o "$out/gpu_bench"
"$nvcc" -O2 -std=c++17 -o "$out/peaks" tests/gpu/peaks.cu -lcublas

echo "== what the device can do: GB/s of a copy, TFLOP/s of cuBLAS in bf16"
"$out/peaks" | tee "$out/peaks.txt"
read -r copy gemm <"$out/peaks.txt"

echo "== the plugin"
status=0
"$out/gpu_bench" "$out/switchyard_cuda.so" "$out/switchyard_reference.so" "$copy" "$gemm" \
  2>&1 | tee "$out/gpu_bench.txt" || status=1

echo "== PyTorch on the same shapes"
if "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  "$python" tests/gpu/sdpa.py
else
  echo "skipped: no PyTorch with CUDA here"
fi

echo "== conformance, choice and regret"
if command -v cmake >/dev/null && command -v ninja >/dev/null &&
  cmake -G Ninja -S . -B "$out/tree" -DCMAKE_BUILD_TYPE=Release >"$out/cmake.log" 2>&1; then
  ninja -C "$out/tree" runtime conformance_test >"$out/ninja.log" || exit 1
  "$out/tree/tests/conformance_test" --gtest_filter='*widest*' | grep -E 'checks .* cuda|FAILED|PASSED' ||
    status=1
  program=$out/tree/bin/switchyard
  "$program" plugin check "$out/tree/lib/switchyard/plugins/switchyard_cuda.so" || status=1
  for shape in n=2000,d=16,k=16 n=1000000,d=128,k=1024; do
    "$program" explain kmeans "$shape" --measure
  done
  "$program" regret --preset production-gpu || status=1
else
  echo "skipped: CMake, Ninja or a package of packages.txt is missing ($out/cmake.log)"
fi
exit $status
