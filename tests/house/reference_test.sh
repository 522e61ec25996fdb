#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The API reference is made without a warning and holds what the headers say.
#   reference_test.sh BUILD_DIRECTORY       exit status 77: doxygen is missing
set -euo pipefail
command -v doxygen >/dev/null || { echo "skipped: doxygen is not installed"; exit 77; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sed "s#^OUTPUT_DIRECTORY .*#OUTPUT_DIRECTORY = $folder#" "$1/generated/Doxyfile" >"$folder/Doxyfile"
doxygen "$folder/Doxyfile" 2>"$folder/warnings" || { cat "$folder/warnings"; exit 1; }
[[ ! -s $folder/warnings ]] || { cat "$folder/warnings"; exit 1; }
grep -q "Asks the calls that are running now to stop" "$folder"/html/switchyard_8h.html
grep -q "Clusters directions" "$folder"/html/structswitchyard_1_1KMeansOptions.html
pages=("$folder"/html/*.html)
echo "${#pages[@]} pages, no warnings"
