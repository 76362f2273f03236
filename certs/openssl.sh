#!/bin/sh
# Makes an authority, a server's certificate and a client's with OpenSSL, for a staging.
#   certs/openssl.sh DIR CLIENT SERVER...
# CLIENT is the client's common name; each SERVER a name of the server, as DNS:peer.example or IP:10.0.0.7.
set -eu
[ $# -ge 3 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
dir=$1 client=$2
shift 2
# It goes into a subject and an alternative name as it is.
case $client in *[!A-Za-z0-9.-]*|-*|"") echo "CLIENT is a host name: letters, digits, dots, hyphens" >&2; exit 2 ;; esac
names=$(echo "$*" | tr ' ' ,)

# Keys are ours alone from their first byte, and nothing is overwritten.
umask 077
mkdir "$dir"
cd "$dir"

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"; }

key ca
cat >ca.cnf <<END
[req]
distinguished_name = subject
x509_extensions = authority
prompt = no
[subject]
CN = Private authority
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
openssl req -x509 -new -config ca.cnf -key ca.key -sha256 -days 3650 -out ca.crt

# leaf FILE COMMON-NAME USAGE NAMES
leaf() {
    key "$1"
    openssl req -new -config ca.cnf -subj "/CN=$2" -key "$1.key" -out "$1.csr"
    cat >"$1.cnf" <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $3
subjectAltName = $4
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -set_serial "0x40$(openssl rand -hex 16)" -sha256 -days 90 \
        -extfile "$1.cnf" -out "$1.crt"
    rm "$1.csr" "$1.cnf"
}

leaf server "${1#*:}" serverAuth "$names"
leaf client "$client" clientAuth "DNS:$client"
rm ca.cnf
chmod 644 ./*.crt
