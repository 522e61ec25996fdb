#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds ggml, the owner of the block formats, outside this tree from the source package of
# llama-cpp-python on PyPI: twice, as an oracle and as a peer.
#
#   benchmarks/build_ggml.sh DIRECTORY [PYTHON]
#
#   DIRECTORY/libggml-exact.so     products and sums not contracted: for bytes (SWITCHYARD_GGML_EXACT)
#   DIRECTORY/libggml-default.so   the package's own flags: for speed (SWITCHYARD_GGML)
#
# Needs cmake, a compiler and about 500 MB. docs/benchmarks.md says who uses the libraries.
set -euo pipefail
version=0.3.36

[[ $# -ge 1 ]] || {
  sed -n '3,13s/^# \{0,1\}//p' "$0"
  exit 2
}
mkdir -p "$1"
directory=$(cd "$1" && pwd)
python=${2:-python3}
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
case $directory/ in
  "$tree"/*) echo "build_ggml: choose a directory outside $tree" >&2 && exit 2 ;;
esac

cd "$directory"
archive=llama_cpp_python-$version.tar.gz
[[ -e $archive ]] ||
  "$python" -m pip download -q --no-deps --no-build-isolation --no-binary :all: \
    "llama-cpp-python==$version"
[[ -d llama_cpp_python-$version ]] || tar xzf "$archive"

build() { # NAME [CMAKE OPTIONS]
  cmake -S "llama_cpp_python-$version/vendor/llama.cpp" -B "build-$1" -DCMAKE_BUILD_TYPE=Release \
    -DBUILD_SHARED_LIBS=ON -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF "${@:2}"
  cmake --build "build-$1" --target ggml-base -j "$(nproc)"
  cp -L "$(find "build-$1" -name 'libggml-base.so' | head -n 1)" "libggml-$1.so"
}
build exact -DCMAKE_C_FLAGS=-ffp-contract=off -DCMAKE_CXX_FLAGS=-ffp-contract=off
build default
