#!/bin/sh
# Builds the uWebSockets peer: uws.sh DEST leaves DEST/uws, run as DEST/uws PORT.
# The shared library comes from the PyPI package socketify; the download
# stays in DEST and is used again.
set -eu
[ $# -eq 1 ] || { echo "use: uws.sh DEST" >&2; exit 2; }
VERSION=0.0.31
SHA256=7502bed5b382e75f04ea3c6d6b53b76f27bb8653740db92e3f2b55fab388df20
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dest=$(cd "$1" && pwd)
case "$(uname -s)-$(uname -m)" in
Linux-x86_64) lib=libsocketify_linux_amd64.so ;;
*) echo "uws.sh: the package has no library for this machine" >&2; exit 1 ;;
esac
# This release is a source archive, but the built libraries are inside it.
tgz=$dest/socketify-$VERSION.tar.gz
if [ ! -f "$tgz" ]; then
    python3 -m pip download -q --disable-pip-version-check --no-deps \
        --no-binary socketify -d "$dest" "socketify==$VERSION"
fi
echo "$SHA256  $tgz" | sha256sum -c --quiet -
tar -xzf "$tgz" -C "$dest" --no-same-owner --strip-components=3 \
    "socketify-$VERSION/src/socketify/$lib"
# The library needs libuv. When the system has none, one copy goes to DEST.
if [ ! -f "$dest/libuv.so.1" ] && ! /sbin/ldconfig -p | grep -q 'libuv\.so\.1 '; then
    (cd "$dest" && apt-get download -q libuv1 && dpkg -x libuv1_*.deb libuv1 &&
        cp -L libuv1/usr/lib/*/libuv.so.1 .)
fi
# The old form of rpath also covers what the library itself needs.
cc -O2 -Wall -Wextra -I"$here" -o "$dest/uws" "$here/uws.c" \
    "-L$dest" "-l:$lib" \
    '-Wl,-rpath,$ORIGIN' -Wl,--disable-new-dtags "-Wl,-rpath-link,$dest"
echo "socketify $VERSION" > "$dest/version"
echo "built $dest/uws (socketify $VERSION)"
