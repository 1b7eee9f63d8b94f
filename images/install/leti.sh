#!/bin/sh
# Install leti itself into an environment made by python.sh, and remove what only built it:
# sh images/install/leti.sh TARGET PREFIX
set -eu
target=$1 prefix=$2
cd "$(dirname "$0")/../.."
"$prefix/bin/python" -m pip install --no-deps --no-build-isolation .
unneeded=
while read -r name; do
  grep -q "^$name==" "images/requirements/$target.txt" || unneeded="$unneeded $name"
done <images/requirements/remove.txt
# Compiled here once, checked against nothing: the root may be read-only, and file times may change on the way.
"$prefix/bin/python" -m compileall -qq -f --invalidation-mode unchecked-hash "$prefix/lib" || true # some packages carry templates
# shellcheck disable=SC2086
"$prefix/bin/python" -m pip uninstall -y -q $unneeded
"$prefix/bin/python" -c 'import stages.entrypoint, leti_ctl.cli'
