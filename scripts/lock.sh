#!/bin/sh
# Write constraints.txt from the environment, without leti itself and without torch's build suffix.
set -eu
{
  echo "# Versions that \`make demo\` and \`make test\` install; rewritten by \`make lock\`."
  .venv/bin/python -m pip freeze --exclude-editable --exclude leti | sed -E 's/^(torch==[0-9.]+)\+.*/\1/; / @ /d'
} >constraints.txt
