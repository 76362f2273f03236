# What both installations share: a receiver, a configuration that exports to it, updates. Read by `.` inside a clean Debian.

. /test/lib.sh

# An authority, a certificate for the receiver, one for us: ECDSA, for a day.
make_pki() {
    mkdir -p /pki
    cd /pki
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj '/CN=Test authority' \
        -keyout ca.key -out ca.pem 2>/dev/null
    local name extensions
    for name in receiver client; do
        extensions='subjectAltName=DNS:localhost,IP:127.0.0.1'
        [ $name = receiver ] || extensions='extendedKeyUsage=clientAuth'
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout $name.key -out $name.csr 2>/dev/null
        openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -out $name.pem \
            -extfile <(printf 'basicConstraints=CA:FALSE\n%s\n' "$extensions") 2>/dev/null
    done
    cd /
}

start_receiver() {
    nginx -c /test/receiver.conf
    await 10 "nginx listens" curl -sk https://127.0.0.1:8443/
}

stop_receiver() {
    kill "$(cat /run/receiver.pid)"
    await 10 "nginx ends" [ ! -e /run/receiver.pid ]
}

# The admin's edit of the packaged file, and certificates beside it.
configure() {
    cat >>/etc/postern/postern.toml <<'TOML'

# Edited by the admin.
[[inlet]]
name = "shop"

[[audience]]
id = "gold-members"
expression = { type = "PQL", format = "pql/text", value = 'plan = "gold"' }

[[destination]]
name = "crm"
endpoint = "https://localhost:8443/in"
audiences = ["gold-members"]
attributes = ["plan", "version"]
tls = { certificate = "tls/client.pem", key = "tls/client.key", roots = "tls/ca.pem" }
TOML
    install -o root -g postern -m 0640 /pki/client.pem /pki/client.key /pki/ca.pem /etc/postern/tls/
}

is_ready() { curl -sf http://127.0.0.1:8601/readyz; }

# Posts version $1 of a profile; the answer must be 200.
post() {
    local status
    status=$(curl -s -o /tmp/answer -w '%{http_code}' -H 'content-type: application/json' http://127.0.0.1:8600/collection/shop \
        -d "{\"identityMap\": {\"CRM\": [{\"id\": \"4711\"}]}, \"plan\": \"gold\", \"version\": $1}")
    [ "$status" = 200 ] || fail "update $1 is answered $status: $(cat /tmp/answer)"
}

# True when the receiver has version $1, from a verified client, with a key.
received() { grep -Eq "^SUCCESS [0-9a-f-]{36} .*\"version\":$1\b" /tmp/received; }

# True when the metrics have a line that matches.
measures() { curl -s http://127.0.0.1:8601/metrics | grep -Eq "^$1\$"; }
waiting() { measures "postern_exports\{.*state=\"waiting\".*\} $1"; }

# True when something came in without a certificate, beside the empty requests of this test.
received_unproven() { grep -Ev '^(SUCCESS .*|NONE  )$' /tmp/received; }

# What belongs to whom: mode, owner and group, path.
has_mode() {
    local found
    found=$(stat -c '%a %U:%G' "$2")
    [ "$found" = "$1" ] || fail "$2 is $found, not $1"
}

wants=/etc/systemd/system/multi-user.target.wants/postern.service
is_enabled() { [ -L $wants ]; }
