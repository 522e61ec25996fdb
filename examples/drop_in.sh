# SPDX-License-Identifier: Apache-2.0
./dev build
cmake --install build --prefix "$PREFIX"                       # once
export PATH="$PREFIX/bin:$PATH"

cp -r examples/plugin "$WORK/sorted1d" && cd "$WORK/sorted1d"  # anywhere, by anybody
cmake -B out -DCMAKE_PREFIX_PATH="$PREFIX" && cmake --build out
mkdir -p "$WORK/plugins" && cp out/switchyard_sorted1d.so "$WORK/plugins"

export SWITCHYARD_PLUGIN_PATH="$WORK/plugins"                  # nothing is rebuilt
switchyard plugin list
switchyard explain kmeans n=20000,d=1,k=2048 --measure         # who is chosen, and why
