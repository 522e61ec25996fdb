#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Small problems of each kernel on Oclgrind's device, a slow one that looks at every access: its log
# must stay empty of races and of accesses out of bounds.
#
#     oclgrind.sh PROGRAM [LIBRARY]      build/tests/opencl_test, liboclgrind-rt-icd.so
# Nothing is optimised: Oclgrind does not know all that its compiler then makes of vectors.
set -eu
program=$1
library=${2:-$(ls /usr/lib/*/oclgrind/liboclgrind-rt-icd.so /usr/lib/oclgrind/liboclgrind-rt-icd.so \
  2>/dev/null | head -n 1)}
[ -n "$library" ] || { echo "Oclgrind is not installed (Debian: oclgrind)" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log=$folder/log
for as in cpu gpu; do  # the kernels for processors, those for graphics cards
  OCL_ICD_VENDORS="$library" OCL_ICD_FILENAMES="$library" OCLGRIND_LOG="$log" \
    OCLGRIND_DATA_RACES=1 OCLGRIND_NUM_THREADS=1 OCLGRIND_BUILD_OPTIONS=-cl-opt-disable \
    XDG_CACHE_HOME="$folder/cache" SWITCHYARD_OPENCL_TINY=1 SWITCHYARD_OPENCL_AS="$as" \
    "$program" --gtest_filter='OpenCl.Tiny*' --gtest_print_time=0 | tee "$folder/words"
  if [ -s "$log" ]; then
    head -n 60 "$log"
    exit 1
  fi
  if ! grep -q '1 test\.$' "$folder/words" || grep -q SKIPPED "$folder/words" ||
    ! grep -q 'PASSED' "$folder/words" || grep -q FAILED "$folder/words"; then
    echo "the problems did not pass on Oclgrind's device ($as)" >&2
    exit 1
  fi
done
echo "Oclgrind: no race, no access out of bounds"
