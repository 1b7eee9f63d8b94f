#!/bin/sh
# Install gVisor's runsc from the distribution where that is possible, else say in one line what to do.
# Debian 12 has a usable build (systrap platform) only in backports; its own is from 2022 and knows ptrace alone.
set -eu
[ "${1:-gvisor}" = gvisor ] || exit 0
command -v runsc >/dev/null && exit 0
tell() {
  echo "runsc is missing: $1; see https://gvisor.dev/docs/user_guide/install/ or use the weaker sandbox: make demo SANDBOX=process" >&2
  exit 1
}
command -v apt-get >/dev/null || tell "no apt-get here to install it with"
if [ "$(id -u)" = 0 ]; then root=; elif sudo -n true 2>/dev/null; then root="sudo -n"; else
  tell "installing it needs root (run: sudo sh scripts/runsc.sh)"
fi
echo "installing runsc"
. /etc/os-release
if [ "${VERSION_CODENAME:-}" = bookworm ]; then
  # A list of our own, so that the machine's sources stay as they are.
  list=$(mktemp)
  trap 'rm -f "$list"' EXIT
  chmod 644 "$list"
  echo "deb http://deb.debian.org/debian bookworm-backports main" >"$list"
  options="-o Dir::Etc::sourcelist=$list -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0"
  $root apt-get $options update -qq && $root apt-get $options install -y -qq -t bookworm-backports runsc >/dev/null ||
    tell "apt-get could not install it from bookworm-backports"
else
  $root apt-get update -qq && $root apt-get install -y -qq runsc >/dev/null || tell "apt-get could not install it"
fi
runsc --version | head -n 1
