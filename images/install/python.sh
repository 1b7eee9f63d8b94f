#!/bin/sh
# Install what a target needs of Python into a new environment: sh images/install/python.sh TARGET PREFIX
# Every file is checked against its hash in requirements/TARGET.txt. torch's CPU build, which PyPI does not have, is
# pinned by version, and by hash once `make images-lock` has looked it up.
set -eu
target=$1 prefix=$2
cd "$(dirname "$0")/../requirements"
[ -f "$target.txt" ] || { echo "no requirements for $target; there are: $(ls ./*.txt)" >&2; exit 2; }
python3 -m venv "$prefix"
install="$prefix/bin/python -m pip install --no-deps --no-compile"
$install --require-hashes -r build.txt
case $target in
cpu | tpu) $install -r torch-cpu.txt ;;
esac
# No build isolation: what builds a source distribution is pinned as well.
$install --require-hashes --no-build-isolation -r "$target.txt"
"$prefix/bin/python" -m pip check || [ "$target" = tpu ] # torch-tpu's own pins are looser than what it was tried with
