#!/bin/sh
# Install Chromium from the distribution where that is possible: the report's page is tested in it. Where it is not, the
# tests of the page say that they are skipped, and all others run.
set -eu
for name in chromium chromium-browser google-chrome chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
tell() {
  echo "no Chromium: $1; the tests of the report's page will be skipped" >&2
  exit 0
}
command -v apt-get >/dev/null || tell "no apt-get here to install it with"
if [ "$(id -u)" = 0 ]; then root=; elif sudo -n true 2>/dev/null; then root="sudo -n"; else
  tell "installing it needs root (run: sudo sh scripts/chromium.sh)"
fi
echo "installing Chromium"
{ $root apt-get update -qq && $root apt-get install -y -qq --no-install-recommends chromium >/dev/null; } ||
  tell "apt-get could not install it"
chromium --version
