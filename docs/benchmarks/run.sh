#!/bin/sh
# Compares this program with PyTorch and ONNX Runtime on this machine and writes results.md and results.json.
#
#   docs/benchmarks/run.sh [--kernels | --steps] [--only REGEXP] [--threads N] ... (compare.py -h lists all)
#
# In parts, one after another, with what is measured again in the place of its old figures:
#
#   docs/benchmarks/run.sh --kernels
#   docs/benchmarks/run.sh --steps --only 'critters|sd1.5 n2' --merge docs/benchmarks/results.json
#
# compare.py --render --merge RESULTS.JSON... joins files of several machines or days, and measures nothing.
#
# Needs Debian or Ubuntu with apt-get, node and Go, and an idle machine. The peers come from their usual places:
# python3-torch from Debian, onnxruntime-node from npm with its install scripts off. Debian's PyTorch multiplies
# matrices with whatever libblas.so.3 is installed, by default the slow reference one, so OpenBLAS is unpacked beside it for this run
# alone. PEERS names the folder for all that, by default one in the temporary folder that is kept for the next run.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
peers=${PEERS:-${TMPDIR:-/tmp}/scalecrafter-peers}
mkdir -p "$peers"
peers=$(cd "$peers" && pwd)

if ! /usr/bin/python3 -c 'import torch' 2>/dev/null; then
	sudo=$([ "$(id -u)" = 0 ] || echo sudo)
	$sudo apt-get update
	$sudo apt-get install -y --no-install-recommends python3-torch
fi
if [ ! -d "$peers/blas" ]; then
	(cd "$peers" && apt-get download libopenblas0-pthread && dpkg -x libopenblas0-pthread_*.deb unpacked && rm libopenblas0-pthread_*.deb)
	ln -s "$(dirname "$(find "$peers/unpacked" -name libblas.so.3)")" "$peers/blas"
fi
if [ ! -d "$peers/node_modules/onnxruntime-node" ]; then
	npm install --ignore-scripts --no-audit --no-fund --prefix "$peers" onnxruntime-node@1.30.0
fi
go build -C "$here/../.." -o "$peers/scalecrafter" .
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 "$here/compare.py" --bench "$peers/scalecrafter" --ort "$peers" --blas "$peers/blas" "$@"
