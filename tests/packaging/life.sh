#!/usr/bin/env bash
# The life of the package in a clean Debian without systemd, without a network: run by chroot.sh inside, with /test/previous.deb
# and /test/postern.deb. Each function is a step; later ones build on earlier ones.
set -euo pipefail
. /test/inside.sh

daemon=

# As the unit does: its user, its directories, its environment, no privilege.
start() {
    install -d -o postern -g postern -m 0750 /run/postern
    install -d -o postern -g postern -m 0700 /var/lib/postern
    cd /
    env -i PATH=/usr/bin MIMALLOC_ARENA_EAGER_COMMIT=0 \
        setpriv --reuid postern --regid postern --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all \
        /usr/bin/postern run 2>>/tmp/log &
    daemon=$!
    await 20 "postern is ready" is_ready
}

stop() {
    kill "$daemon"
    wait "$daemon" || fail "postern ended with $?: $(tail -3 /tmp/log)"
    daemon=
}

end() {
    local code=$?
    [ $code = 0 ] || tail -20 /tmp/log >&2 || true
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    [ ! -e /run/receiver.pid ] || kill "$(cat /run/receiver.pid)" || true
}
trap end EXIT

dpkg_i() { dpkg --force-confdef --force-confold -i "$1" >/tmp/dpkg 2>&1 || fail "dpkg -i $1: $(cat /tmp/dpkg)"; }

installs() {
    say "install"
    dpkg_i /test/previous.deb
    has_mode '750 root:postern' /etc/postern
    has_mode '750 root:postern' /etc/postern/conf.d
    has_mode '750 root:postern' /etc/postern/tls
    has_mode '640 root:postern' /etc/postern/postern.toml
    is_enabled || fail "the unit is not enabled"
    runuser -u postern -- postern check >/dev/null || fail "the sample is refused"
    [ "$(find /usr/share/man -name 'postern*' | wc -l)" -ge 10 ] || fail "manual pages are missing"

    say "install again"
    dpkg_i /test/previous.deb
    has_mode '640 root:postern' /etc/postern/postern.toml
}

says_what_is_missing() {
    say "the sample says what is missing, init writes it"
    start
    grep -q 'no inlet and no destination is configured; `postern init`' /tmp/log || fail "the log does not say it: $(cat /tmp/log)"
    stop
    postern init >/dev/null
    has_mode '640 root:postern' /etc/postern/conf.d/web.toml
    runuser -u postern -- postern check >/dev/null || fail "what init wrote is refused"
    # The admin's own inlet follows.
    rm /etc/postern/conf.d/web.toml
}

delivers() {
    say "an update reaches a receiver that requires a client certificate"
    make_pki
    configure
    start_receiver
    [ "$(curl -s -o /dev/null -w '%{http_code}' --cacert /pki/ca.pem https://localhost:8443/in)" = 400 ] ||
        fail "the receiver takes clients without a certificate"
    start
    post 1
    await 20 "version 1 arrives" received 1
}

upgrades() {
    say "upgrade with an export waiting and an edited conffile"
    stop_receiver
    post 2
    await 20 "version 2 waits" waiting 1
    cp /etc/postern/postern.toml /tmp/edited
    dpkg_i /test/postern.deb
    cmp /etc/postern/postern.toml /tmp/edited || fail "the admin's edit is lost"
    [ -e /etc/postern/postern.toml.dpkg-dist ] || fail "the new sample is not beside it"
    has_mode '640 root:postern' /etc/postern/postern.toml
    is_ready >/dev/null || fail "it does not run through the upgrade"
    stop
    start
    await 20 "version 2 still waits" waiting 1
    start_receiver
    await 90 "version 2 arrives" received 2
    ! received_unproven || fail "something came in without a certificate"
    stop
}

keeps_what_the_admin_said() {
    say "statoverride, disabled and masked stay so over an upgrade"
    dpkg-statoverride --update --add root root 0700 /etc/postern/tls
    local link
    link=$(readlink $wants)
    rm $wants
    dpkg_i /test/previous.deb
    dpkg_i /test/postern.deb
    ! is_enabled || fail "an upgrade enables what the admin has disabled"
    has_mode '700 root:root' /etc/postern/tls
    dpkg-statoverride --remove /etc/postern/tls
    ln -s /dev/null /etc/systemd/system/postern.service
    dpkg_i /test/previous.deb
    dpkg_i /test/postern.deb
    [ "$(readlink /etc/systemd/system/postern.service)" = /dev/null ] || fail "an upgrade unmasks what the admin has masked"
    rm /etc/systemd/system/postern.service
    ln -s "$link" $wants
    chgrp postern /etc/postern/tls
    chmod 0750 /etc/postern/tls
}

removes_and_returns() {
    say "remove keeps data and configuration"
    local before
    before=$(find /var/lib/postern /etc/postern -type f | sort)
    dpkg -r postern >/tmp/dpkg 2>&1 || fail "dpkg -r: $(cat /tmp/dpkg)"
    [ ! -e /usr/bin/postern ] || fail "the binary stays"
    [ "$(find /var/lib/postern /etc/postern -type f | sort)" = "$before" ] || fail "remove takes data or configuration away"

    say "install again: all is there"
    dpkg_i /test/postern.deb
    is_enabled || fail "the unit is not enabled again"
    start
    measures 'postern_store_profiles 1' || fail "the profile is gone"
    post 3
    await 20 "version 3 arrives" received 3
    stop
}

purges() {
    say "purge"
    dpkg -P postern >/tmp/dpkg 2>&1 || fail "dpkg -P: $(cat /tmp/dpkg)"
    local left
    left=$(find / -xdev \( -path /test -o -path /proc -o -path /sys \) -prune -o -name '*postern*' ! -path '/run/*' -print)
    [ -z "$left" ] || fail "purge leaves $left"
    getent passwd postern >/dev/null || fail "purge takes the user away"
}

ip link set lo up
installs
says_what_is_missing
delivers
upgrades
keeps_what_the_admin_said
removes_and_returns
purges
say "done"
