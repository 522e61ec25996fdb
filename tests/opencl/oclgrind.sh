#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Small problems of each kernel on Oclgrind's device: its log must stay empty of races and of
# accesses out of bounds.
#
#     oclgrind.sh PROGRAM LIBRARY        build/tests/opencl_test, liboclgrind-rt-icd.so
# Nothing is optimised: Oclgrind does not know all that its compiler then makes of vectors.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log=$folder/log
for as in cpu gpu; do  # the kernels for processors, those for graphics cards
  OCL_ICD_VENDORS="$2" OCL_ICD_FILENAMES="$2" OCLGRIND_LOG="$log" OCLGRIND_DATA_RACES=1 \
    OCLGRIND_NUM_THREADS=1 OCLGRIND_BUILD_OPTIONS=-cl-opt-disable XDG_CACHE_HOME="$folder/cache" \
    SWITCHYARD_OPENCL_TINY=1 SWITCHYARD_OPENCL_AS="$as" "$1" --gtest_filter='OpenCl.Tiny*'
  if [ -s "$log" ]; then
    head -n 60 "$log"
    exit 1
  fi
done
