#!/usr/bin/env bash
# The package, built last by `make deb`, under systemd as process 1, without a network. Needs root and systemd-nspawn.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/packaging/lib.sh

[ "$(id -u)" = 0 ] || fail "a container needs root"
deb=$(realpath "${1:-$(package)}")
install_tools systemd-nspawn systemd-container mmdebstrap mmdebstrap
mkdir -p "$work"
dir=$(mktemp -d "$work/nspawn.XXXX")
trap '[ "${POSTERN_KEEP:-}" ] || rm -rf --one-file-system "$dir"' EXIT
root=$dir/root
make_debian "$root" systemd-sysv,dbus,man-db,nginx-light,curl,openssl,e2fsprogs
mkdir "$root/test"
cp tests/packaging/{lib.sh,inside.sh,systemd.sh,receiver.conf} "$root/test"
cp "$deb" "$root/test/postern.deb"
make_previous "$deb" "$root/test/previous.deb"
# Ours is started by the test.
rm -f "$root/etc/systemd/system/multi-user.target.wants/nginx.service"

# The journal of a test is small, and all of it is wanted.
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' >"$root/etc/systemd/journald.conf.d/test.conf"
cat >"$root/etc/systemd/system/test.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
StandardOutput=file:/test/log
StandardError=file:/test/log
ExecStart=/bin/bash /test/systemd.sh
ExecStopPost=/bin/sh -c 'echo "$SERVICE_RESULT" >/test/result; journalctl -b -o short-monotonic --no-pager >/test/journal; systemctl --force exit'
UNIT
ln -s ../test.service "$root/etc/systemd/system/multi-user.target.wants/test.service"

# Its own processes, which all end with it: seconds it may take, arguments of the container.
container() {
    local limit=$1
    shift
    unshare --pid --fork --kill-child --mount --mount-proc timeout -s KILL "$limit" systemd-nspawn --register=no --keep-unit \
        --quiet --machine="postern-test-$$" --private-network -D "$root" "$@" </dev/null >"$dir/console" 2>&1
}
if ! container 30 true; then
    say "left out, systemd-nspawn starts no container here: $(tail -1 "$dir/console")"
    exit
fi

say "boot"
container 400 -b systemd.unit=multi-user.target || true
cat "$root/test/log" 2>/dev/null || true
if [ "$(cat "$root/test/result" 2>/dev/null)" != success ]; then
    cp "$root/test/journal" "$dir/console" "$work/" 2>/dev/null || true
    fail "the journal is in $work"
fi
