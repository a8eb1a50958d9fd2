#!/bin/sh
# Builds the uWebSockets peer: "uws.sh DEST" writes DEST/uws, which is run as "DEST/uws PORT".
# "uws.sh DEST tls" builds it with OpenSSL, to be run as "DEST/uws PORT CERTIFICATE KEY".
# That needs OpenSSL's headers; root installs Debian's package.
# The sources are those in the crate libuwebsockets-sys. ../Cargo.toml names the crate, and
# ../Cargo.lock pins its version. Nothing else of the crate is used; its build script is not run.
set -eu
[ $# -eq 1 ] || [ "$#:${2:-}" = 2:tls ] || { echo "usage: uws.sh DEST [tls]" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dest=$(cd "$1" && pwd)
target=$(rustc -vV | sed -n 's/^host: //p')
crate=$(cargo metadata --locked --format-version 1 --all-features --filter-platform "$target" \
    --manifest-path "$here/../Cargo.toml" | python3 -c '
import json, os, sys
found = [p for p in json.load(sys.stdin)["packages"] if p["name"] == "libuwebsockets-sys"][0]
print(os.path.dirname(found["manifest_path"]), found["version"])')
sources=${crate% *}/uWebSockets
src=$sources/uSockets/src
# The flags of its makefiles, but without -march=native and zlib. uSockets uses epoll on
# Linux by default.
flags='-O3 -flto=auto'
if [ $# -eq 2 ]; then
    if [ ! -f /usr/include/openssl/ssl.h ] && [ "$(id -u)" = 0 ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends libssl-dev
    fi
    flags="$flags -DLIBUS_USE_OPENSSL" libraries='-lssl -lcrypto'
    gcc $flags -std=c11 -I"$src" -c "$src/crypto/openssl.c" -o "$dest/openssl.o"
    g++ $flags -std=c++17 -I"$src" -c "$src/crypto/sni_tree.cpp" -o "$dest/sni_tree.o"
    version=", OpenSSL $(openssl version | cut -d' ' -f2)"
else
    flags="$flags -DLIBUS_NO_SSL" libraries= version=
fi
for file in "$src"/*.c "$src"/eventing/*.c; do
    gcc $flags -std=c11 -I"$src" -c "$file" -o "$dest/$(basename "$file" .c).o"
done
g++ $flags -std=c++20 -DUWS_NO_ZLIB -Wall -Wextra \
    -isystem "$sources/src" -isystem "$src" \
    -o "$dest/uws" "$here/uws.cpp" "$dest"/*.o $libraries
echo "20, libuwebsockets-sys ${crate##* }$version" > "$dest/version"
echo "built $dest/uws"
