#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run.sh READER SECONDS BUILD: one fuzzer for a while; what it finds stays in BUILD/fuzz/READER. Prints
# the number of executions. Inputs found before are tried again first.
set -euo pipefail
reader=$1 seconds=$2 build=$3
folder=$build/fuzz/$reader
mkdir -p "$folder/corpus"
python3 "$(dirname "${BASH_SOURCE[0]}")/seeds.py" "$reader" "$folder/seeds"
status=0
"$build/tests/${reader}_fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 \
  -malloc_limit_mb=256 -print_final_stats=1 -artifact_prefix="$folder/" "$folder/corpus" "$folder/seeds" \
  >"$folder/log" 2>&1 || status=$?
if ((status != 0)); then
  tail -n 60 "$folder/log"
  exit "$status"
fi
executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$folder/log")
echo "$reader reader: $executions executions in $seconds s, nothing found"
((executions > 1000))
