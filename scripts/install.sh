#!/usr/bin/env bash
# Installs what a task needs and the machine lacks: Debian packages and Cargo tools, nothing else.
# It says what it installs before it does, and does nothing if nothing is missing.
#
# Usage: scripts/install.sh TASK...     tasks: build, test, check, bench
set -euo pipefail

# The versions that are installed when there is none; a version that is there already is used.
nextest_version=0.9.151
deny_version=0.20.2

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null; }

packages=()
cargo_tools=()

# Debian packages to install unless the command that they bring is there.
want_command() { # command package...
    has "$1" || packages+=("${@:2}")
}

# Debian packages that bring no command of their own.
want_packages() {
    local package
    for package in "$@"; do
        dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null |
            grep -qx installed || packages+=("$package")
    done
}

want_cargo_tool() { # subcommand version
    cargo "$1" --version >/dev/null 2>&1 || cargo_tools+=("cargo-$1@$2")
}

for_build() {
    has cargo || fail "needs a Rust toolchain (cargo, rustc, rustfmt, clippy); see https://rustup.rs"
    # Some crates compile C or assembly, and rustc links with cc.
    want_command cc gcc libc6-dev
    want_command node nodejs
    want_command npm npm
}

for_test() {
    want_command git git
    want_command curl curl
    # Makes disks hang.
    want_command strace strace
    # The real encoders and players: both sides of every protocol.
    want_command ffmpeg ffmpeg
    want_command gst-launch-1.0 gstreamer1.0-tools
    has dpkg-query && want_packages gstreamer1.0-plugins-base gstreamer1.0-plugins-good \
        gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
    want_command vlc vlc-bin
    has dpkg-query && want_packages vlc-plugin-base
    # A judge of transport streams.
    want_command tsreport tstools
    # A foreign server to fetch streams from.
    want_command nginx nginx
    has dpkg-query && want_packages libnginx-mod-rtmp
    # A caching proxy; it compiles its configuration with the compiler of the build.
    want_command varnishd varnish
    # The browser, and a font for its screenshots.
    want_command chromium chromium fonts-dejavu-core
    want_cargo_tool nextest "$nextest_version"
}

for_check() {
    want_command git git
    want_cargo_tool deny "$deny_version"
}

for_bench() {
    # Counts instructions.
    want_command valgrind valgrind
}

install_packages() {
    has apt-get || fail "missing, and there is no apt-get to install them with: ${packages[*]}"
    echo "installing Debian packages: ${packages[*]}"
    local as_root=(env DEBIAN_FRONTEND=noninteractive)
    if [ "$(id -u)" -ne 0 ]; then
        has sudo || fail "needs root or sudo to install them"
        as_root=(sudo "${as_root[@]}")
    fi
    # One list that cannot be fetched must not stop the others: what is missing then fails below.
    "${as_root[@]}" apt-get -qq update || echo "apt-get update failed; using the lists that are there"
    "${as_root[@]}" apt-get -qq -y install --no-install-recommends "${packages[@]}"
}

install_cargo_tools() {
    echo "installing with cargo (this compiles them, once): ${cargo_tools[*]}"
    cargo install --locked "${cargo_tools[@]}"
}

for task in "$@"; do
    case $task in
        build) for_build ;;
        test) for_test ;;
        check) for_check ;;
        bench) for_bench ;;
        *) fail "unknown task '$task'; there are build, test, check, bench" ;;
    esac
done
if [ ${#packages[@]} -gt 0 ]; then install_packages; fi
if [ ${#cargo_tools[@]} -gt 0 ]; then install_cargo_tools; fi

if has node; then
    node_major=$(node --print 'process.versions.node.split(".")[0]')
    [ "$node_major" -ge 18 ] || fail "needs Node 18 or later for the UI; here is $(node --version)"
fi
