#!/usr/bin/env bash
# The life of the package where systemd is process 1: run by nspawn.sh inside, without a network, with /test/previous.deb and
# /test/postern.deb. Each function is a step; later ones build on earlier ones.
set -euo pipefail
. /test/inside.sh

dpkg_i() { dpkg --force-confdef --force-confold -i "$1" >/tmp/dpkg 2>&1 || fail "dpkg -i $1: $(cat /tmp/dpkg)"; }
show() { systemctl show --value --property "$1" postern; }
main() { show MainPID; }
is_active() { systemctl is-active --quiet postern; }

# True when another process than $1 is up and ready.
is_another() { is_active && [ "$(main)" != "$1" ] && [ "$(main)" != 0 ] && is_ready; }
status_says() { show StatusText | grep -Eq "$1"; }

installs() {
    say "install: enabled, started, and says what is missing"
    dpkg_i /test/previous.deb
    systemctl is-enabled --quiet postern || fail "it is not enabled"
    await 20 "postern is active and ready" eval 'is_active && is_ready'
    journalctl -u postern | grep -q 'no inlet and no destination is configured' || fail "the journal does not say what is missing"
    said=$(systemd-analyze verify postern.service 2>&1) || true
    [ -z "$said" ] || fail "systemd-analyze verify says: $said"
    systemd-analyze security --no-pager --threshold=15 postern >/tmp/exposure || fail "$(tail -1 /tmp/exposure)"
    has_mode '700 postern:postern' /var/lib/postern
    has_mode '750 postern:postern' /run/postern
    # The database counts on synchronous files, and the sandbox must let it ask for them.
    lsattr -d /var/lib/postern/store | grep -q '^[^ ]*S' || fail "the store is not synchronous: $(lsattr -d /var/lib/postern/store)"
}

reloads() {
    say "reload: a good configuration is taken, a bad one refused with its reasons"
    make_pki
    start_receiver
    configure
    local before
    before=$(main)
    systemctl reload postern || fail "a good configuration is refused: $(journalctl -u postern -n 5 -o cat)"
    await 20 "the inlet is there" post_quietly
    post 1
    await 20 "version 1 arrives" received 1
    cp /etc/postern/postern.toml /tmp/good
    echo 'nonsense = 1' >>/etc/postern/postern.toml
    ! systemctl reload postern 2>/dev/null || fail "a bad configuration is taken"
    journalctl -u postern -o cat | grep -q 'nonsense: unknown key' || fail "the journal does not say why"
    is_active || fail "a refused reload ends the service"
    cp /tmp/good /etc/postern/postern.toml
    [ "$(main)" = "$before" ] || fail "a reload starts another process"
}
post_quietly() { (post 1); }

tells_its_state() {
    say "status"
    status_says . || fail "there is no status text"
    stop_receiver
    post 2
    await 60 "the status tells of a waiting export" status_says '^1 export'
    start_receiver
    await 90 "version 2 arrives" received 2
}

is_watched() {
    say "watchdog: a stopped process is replaced within a minute"
    local before
    before=$(main)
    kill -STOP "$before"
    await 60 "another process after SIGSTOP" is_another "$before"
    [ "$(show NRestarts)" = 1 ] || fail "restarted $(show NRestarts) times"
    journalctl -u postern -o cat | grep -q 'Watchdog timeout' || fail "it was not the watchdog"

    say "kill -9"
    before=$(main)
    kill -KILL "$before"
    await 20 "another process after SIGKILL" is_another "$before"
    post 3
    await 90 "version 3 arrives" received 3
}

stays_down_on_a_bad_configuration() {
    say "a bad configuration: one try, exit code 78"
    echo 'nonsense = 1' >>/etc/postern/postern.toml
    ! systemctl restart postern 2>/dev/null || fail "it starts"
    [ "$(show ExecMainStatus)" = 78 ] && [ "$(systemctl is-active postern)" = failed ] || fail "$(systemctl status postern)"
    cp /tmp/good /etc/postern/postern.toml
    systemctl reset-failed postern
    systemctl start postern
    await 20 "ready again" is_ready
}

takes_a_credential() {
    say "a secret by credential"
    printf 'hunter2' >/etc/postern/crm.token
    chmod 0600 /etc/postern/crm.token
    mkdir -p /etc/systemd/system/postern.service.d
    printf '[Service]\nLoadCredential=crm:/etc/postern/crm.token\n' >/etc/systemd/system/postern.service.d/crm.conf
    sed -i '/^endpoint/a authentication = { bearer = { credential = "crm" } }' /etc/postern/postern.toml
    systemctl daemon-reload
    systemctl restart postern || fail "it does not start: $(journalctl -u postern -n 5 -o cat)"
    post 4
    await 90 "version 4 arrives" received 4
}

upgrades() {
    say "upgrade: restarted once, with an export waiting"
    stop_receiver
    post 5
    await 20 "version 5 waits" waiting 1
    local before restarts
    before=$(main)
    restarts=$(started)
    dpkg_i /test/postern.deb
    await 20 "another process after the upgrade" is_another "$before"
    [ "$(started)" = $((restarts + 1)) ] || fail "an upgrade starts it $(($(started) - restarts)) times"
    grep -q credential /etc/postern/postern.toml || fail "the admin's edit is lost"
    start_receiver
    await 90 "version 5 arrives" received 5

    say "what is stopped, disabled or masked stays so"
    systemctl stop postern
    [ "$(show Result)" = success ] || fail "stopping ends in $(show Result)"
    dpkg_i /test/previous.deb
    ! is_active || fail "an upgrade starts what was stopped"
    systemctl disable --quiet postern
    dpkg_i /test/postern.deb
    [ "$(systemctl is-enabled postern)" = disabled ] || fail "an upgrade enables it"
    systemctl mask --quiet postern
    dpkg_i /test/previous.deb
    [ "$(systemctl is-enabled postern)" = masked ] || fail "an upgrade unmasks it"
    systemctl unmask --quiet postern
    systemctl enable --quiet --now postern
    dpkg_i /test/postern.deb
}
started() { journalctl -u postern -o cat | grep -c '^Started postern.service' || true; }

purges() {
    say "remove, install again, purge"
    dpkg -r postern >/tmp/dpkg 2>&1 || fail "dpkg -r: $(cat /tmp/dpkg)"
    ! is_active || fail "it runs without its package"
    [ -e /var/lib/postern/FORMAT ] || fail "remove takes the data away"
    dpkg_i /test/postern.deb
    await 20 "ready again" is_ready
    measures 'postern_store_profiles 1' || fail "the profile is gone"
    dpkg -P postern >/tmp/dpkg 2>&1 || fail "dpkg -P: $(cat /tmp/dpkg)"
    ! is_active || fail "it runs without its package"
    [ ! -e /var/lib/postern ] && [ ! -e /etc/postern ] && [ ! -e /run/postern ] || fail "purge leaves something"
    getent passwd postern >/dev/null || fail "purge takes the user away"
    [ -z "$(systemctl list-unit-files --no-legend 'postern*')" ] || fail "the unit stays"
}

installs
reloads
tells_its_state
is_watched
stays_down_on_a_bad_configuration
takes_a_credential
upgrades
purges
stop_receiver
say "done"
