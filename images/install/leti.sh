#!/bin/sh
# Install leti itself into an environment made by python.sh, and remove what installs: sh images/install/leti.sh PREFIX
set -eu
prefix=$1
cd "$(dirname "$0")/../.."
"$prefix/bin/python" -m pip install --no-deps --no-build-isolation .
"$prefix/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$prefix/lib" || true # some packages ship Python 2
"$prefix/bin/python" -m pip uninstall -y -q -r images/requirements/remove.txt
"$prefix/bin/python" -c 'import stages.entrypoint, leti_ctl.cli'
