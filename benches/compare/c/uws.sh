#!/bin/sh
# Builds the uWebSockets peer: "uws.sh DEST" writes DEST/uws, which is run as "DEST/uws PORT".
# The sources are those in the crate libuwebsockets-sys. ../Cargo.toml names the crate, and
# ../Cargo.lock pins its version. Nothing else of the crate is used; its build script is not run.
set -eu
[ $# -eq 1 ] || { echo "usage: uws.sh DEST" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dest=$(cd "$1" && pwd)
target=$(rustc -vV | sed -n 's/^host: //p')
crate=$(cargo metadata --locked --format-version 1 --all-features --filter-platform "$target" \
    --manifest-path "$here/../Cargo.toml" | python3 -c '
import json, os, sys
found = [p for p in json.load(sys.stdin)["packages"] if p["name"] == "libuwebsockets-sys"][0]
print(os.path.dirname(found["manifest_path"]), found["version"])')
version=${crate##* }
sources=${crate% *}/uWebSockets
# The flags of its makefiles, but without -march=native, TLS and zlib. uSockets uses epoll on
# Linux by default.
flags='-O3 -flto=auto -DLIBUS_NO_SSL'
for file in "$sources"/uSockets/src/*.c "$sources"/uSockets/src/eventing/*.c; do
    gcc $flags -std=c11 -I"$sources/uSockets/src" -c "$file" -o "$dest/$(basename "$file" .c).o"
done
g++ $flags -std=c++20 -DUWS_NO_ZLIB -Wall -Wextra \
    -isystem "$sources/src" -isystem "$sources/uSockets/src" \
    -o "$dest/uws" "$here/uws.cpp" "$dest"/*.o
echo "20, libuwebsockets-sys $version" > "$dest/version"
echo "built $dest/uws"
