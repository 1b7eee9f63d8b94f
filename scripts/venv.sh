#!/bin/sh
# Make .venv with the pinned dependencies: CPU torch where there is no NVIDIA GPU.
set -eu
python=${1:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "leti needs Python 3.11 or newer, $python is $("$python" -V 2>&1); run: make PYTHON=/path/to/python3.11" >&2
  exit 2
}
if ! "$python" -m venv .venv 2>/dev/null; then
  # Debian splits venv off; everywhere else it is part of Python.
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null && "$python" -m venv .venv
  else
    echo "python's venv module is missing; install it (Debian: apt-get install python3-venv)" >&2
    exit 2
  fi
fi
pip="$PWD/.venv/bin/python -m pip --disable-pip-version-check"
torch=$(grep '^torch==' constraints.txt)
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
  if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    echo "installing $torch with CUDA"
    $pip install -q "$torch"
  else
    # PyPI's wheel carries gigabytes of CUDA; PyTorch's own index has the CPU build. Where that index cannot be
    # reached, a mirror of pip.conf may have it. What torch needs comes with everything else below: asking two
    # indexes for each of those takes minutes when one is silent.
    echo "installing $torch for CPU"
    index=https://download.pytorch.org/whl/cpu
    $pip install -q --no-deps --retries 0 --timeout 10 --extra-index-url "$index" "$torch" 2>.venv/torch.log ||
      $pip install -q --no-deps "$torch" || { cat .venv/torch.log >&2; exit 1; }
  fi
fi
echo "installing leti and its pinned dependencies"
$pip install -q -c constraints.txt torch -e '.[models,report,tracking,dev]'
