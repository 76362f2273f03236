#!/usr/bin/env bash
# The package, built last by `make deb`: lintian, then its life in a clean Debian without systemd and without a network.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/packaging/lib.sh

[ "$(id -u)" = 0 ] || fail "a clean Debian needs root"
deb=$(realpath "${1:-$(package)}")
install_tools lintian lintian mmdebstrap mmdebstrap

say "lintian"
lintian --allow-root --fail-on error,warning "$deb"

mkdir -p "$work"
dir=$(mktemp -d "$work/chroot.XXXX")
trap '[ "${POSTERN_KEEP:-}" ] || rm -rf --one-file-system "$dir"' EXIT
root=$dir/root
make_debian "$root" systemd-standalone-sysusers,nginx-light,curl,openssl,iproute2
mkdir "$root/test"
cp tests/packaging/{lib.sh,inside.sh,life.sh,receiver.conf} "$root/test"
cp "$deb" "$root/test/postern.deb"
make_previous "$deb" "$root/test/previous.deb"

# Its own processes, which all end with it, its own mounts, and no network but loopback.
unshare --mount --pid --net --uts --ipc --fork --kill-child timeout -s KILL 300 sh -euc "
    mount --make-rprivate /
    mount -t proc proc '$root/proc'
    exec chroot '$root' env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C bash /test/life.sh"
