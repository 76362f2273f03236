# What the scripts here share; read by `.`, not run.

work=${POSTERN_WORK:-$PWD/target/packaging-test}

say() { printf -- '-- %s (%ss)\n' "$*" "$SECONDS"; }
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# Waits until a command succeeds: seconds, what is waited for, command.
await() {
    local until=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || fail "waited in vain: $what"
        sleep 0.1
    done
}

# Installs what the scripts need and this machine lacks: command, package, ...
install_tools() {
    local missing=()
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    apt-get update -q >/dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" </dev/null >/dev/null
}

# A clean Debian like this machine's, from the mirror that apt is configured with: directory, packages.
make_debian() {
    local mirror suite
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -1)
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    [ -n "$mirror" ] || fail "apt has no mirror of Debian to make a clean one from"
    say "a clean Debian $suite with $2"
    mmdebstrap --quiet --variant=minbase --include="$2" "$suite" "$1" "$mirror"
    # Not there until something is installed that wants it.
    echo "127.0.0.1 localhost" >"$1/etc/hosts"
}

# The package that was built last.
package() {
    local newest
    newest=$(find target/debian -maxdepth 1 -name 'postern_*.deb' -printf '%T@ %p\n' | sort -rn | head -1)
    [ -n "$newest" ] || fail "there is no package: make deb"
    echo "${newest#* }"
}

# The same as an earlier version that came with another sample configuration: package, result.
make_previous() {
    local tree
    tree=$(mktemp -d "$work/previous.XXXX")
    dpkg-deb -R "$1" "$tree"
    sed -i 's/^Version: .*/Version: 0.0.9-1/' "$tree/DEBIAN/control"
    sed -i '1i # The sample of an earlier version.' "$tree/etc/postern/postern.toml"
    (cd "$tree" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-deb --root-owner-group -Znone -b "$tree" "$2" >/dev/null
    rm -rf "$tree"
}
