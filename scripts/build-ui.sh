#!/usr/bin/env bash
# Builds the browser pages (web/) into web/dist, if anything changed since they were last built.
set -euo pipefail
cd "$(dirname "$0")/../web"

packages_stamp=node_modules/.installed
build_stamp=node_modules/.built

# Whether one of the paths, or a file below it, is newer than the stamp. A folder counts too: its
# time changes when a file in it is deleted or renamed.
changed_since() { # stamp path...
    [ ! -e "$1" ] || [ -n "$(find "${@:2}" -newer "$1" -print -quit)" ]
}

if changed_since "$packages_stamp" package.json package-lock.json; then
    echo "installing the npm packages of package-lock.json into web/node_modules"
    npm ci --no-audit --no-fund --loglevel=error
    touch "$packages_stamp"
fi

mapfile -t sources < <(find . -mindepth 1 -maxdepth 1 ! -name node_modules ! -name dist)
if [ ! -d dist ] || changed_since "$build_stamp" "${sources[@]}" "$packages_stamp"; then
    echo "building web/dist"
    npm run --silent build
    touch "$build_stamp"
fi
