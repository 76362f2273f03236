#!/usr/bin/env bash
# The unit as it stands: systemd has nothing to say about it, and its exposure is at most 1.5 of 10.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/packaging/lib.sh
install_tools systemd-analyze systemd

postern=${CARGO_TARGET_DIR:-$PWD/target}/release/postern
[ -x "$postern" ] || fail "there is no $postern: cargo build --release"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

say "verify"
# Where the binary is not installed, that would be all there is to say.
sed "s|/usr/bin/postern|$postern|" systemd/postern.service >"$dir/postern.service"
said=$(systemd-analyze verify --man=no "$dir/postern.service" 2>&1) || true
[ -z "$said" ] || fail "systemd-analyze verify says: $said"

say "exposure"
# In tenths. What is left at 1.1 is the network, and a root directory with the system's own files.
systemd-analyze security --offline=true --no-pager --threshold=15 systemd/postern.service 2>/dev/null >"$dir/exposure" ||
    fail "$(tail -1 "$dir/exposure")"
tail -1 "$dir/exposure"
