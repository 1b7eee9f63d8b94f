#!/bin/sh
# Write requirements/*.txt: the versions of constraints.txt, each file with its hashes. Needs uv: pip install uv
set -eu
cd "$(dirname "$0")/.."
command -v uv >/dev/null || { echo "uv is missing; run: pip install uv" >&2; exit 1; }
write() { # write TARGET INPUT...
  target=$1
  shift
  uv pip compile -q --generate-hashes --no-header --no-annotate --python-version 3.11 --python-platform x86_64-manylinux_2_36 \
    -c constraints.txt "$@" -o "images/requirements/$target.txt"
  sed -i "1i # $target: written by images/requirements.sh from constraints.txt; do not edit." "images/requirements/$target.txt"
}
in=images/requirements
write build "$in/build.in"
write execute "$in/execute.in"
write ctl pyproject.toml --extra argo
# torch comes from PyTorch's own index, which has a build for the CPU; what that needs is listed beside it.
write cpu pyproject.toml --extra models --excludes "$in/torch.excluded" "$in/torch-cpu.in"
write gpu pyproject.toml --extra models
write tpu pyproject.toml --extra models --excludes "$in/torch.excluded" "$in/torch-cpu.in" "$in/tpu.in"
