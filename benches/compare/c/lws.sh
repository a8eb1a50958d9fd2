#!/bin/sh
# Builds the libwebsockets peer: "lws.sh DEST" writes DEST/lws, which is run as "DEST/lws PORT".
# Root installs Debian's package. Other users, and root if LWS_UNPACK is set, unpack the
# packages below DEST; then only the poll loop works, not "lws PORT uv".
set -eu
[ $# -eq 1 ] || { echo "usage: lws.sh DEST" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dest=$(cd "$1" && pwd)
flags=
if ! dpkg -s libwebsockets-dev >/dev/null 2>&1 || [ "${LWS_UNPACK:-}" ]; then
    if [ "$(id -u)" = 0 ] && [ -z "${LWS_UNPACK:-}" ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends libwebsockets-dev
    else
        root=$dest/lws-root
        if [ ! -f "$root/done" ]; then
            mkdir -p "$dest/lws-deb" "$root"
            (cd "$dest/lws-deb" && apt-get download -q libwebsockets-dev \
                libwebsockets17 libuv1-dev libcap-dev libcap2 libssl-dev libssl3 zlib1g)
            for deb in "$dest"/lws-deb/*.deb; do dpkg -x "$deb" "$root"; done
            touch "$root/done"
        fi
        multi=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || cc -print-multiarch)
        flags="-I$root/usr/include -I$root/usr/include/$multi -L$root/usr/lib/$multi
            -Wl,-rpath-link,$root/usr/lib/$multi -Wl,-rpath-link,$root/lib/$multi
            -Wl,--disable-new-dtags
            -Wl,-rpath,\$ORIGIN/lws-root/usr/lib/$multi -Wl,-rpath,\$ORIGIN/lws-root/lib/$multi"
    fi
fi
# $flags is unquoted so that the shell splits it. DEST therefore must not contain spaces.
cc -O2 -Wall -Wextra -Wno-missing-field-initializers -o "$dest/lws" \
    "$here/lws.c" $flags -lwebsockets
dpkg-query -W -f '${Version}\n' libwebsockets-dev > "$dest/version" 2>/dev/null ||
    basename "$dest"/lws-deb/libwebsockets-dev_*.deb > "$dest/version"
echo "built $dest/lws"
