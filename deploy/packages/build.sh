#!/bin/sh
# Makes the packages: kes-agent and kes-cli for Debian and Ubuntu, a tarball, and their checksums.
#
# Usage: build.sh PROGRAMS SHARE OUT VERSION. Called by make dist. The same sources and programs make
# the same packages. Environment:
#   MAINTAINER   whom the packages name: who distributes them
#   COMPRESSION  dpkg-deb's -Z (default xz)
set -eu

programs=$(cd "$1" && pwd)
share=$(cd "$2" && pwd)
mkdir -p "$3"
out=$(cd "$3" && pwd)
version=$4
here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
maintainer=${MAINTAINER:-KES agent <kes-agent@example.org>}

# The time of the last commit, so that nothing depends on when this runs.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$project" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

if command -v dpkg-deb >/dev/null; then
    architecture=$(dpkg --print-architecture)
else
    architecture=
fi

# Which shared libraries the program needs, as Debian's packages: none, if it is linked statically.
libraries() {
    if ! command -v dpkg-shlibdeps >/dev/null; then
        echo 'libc6'
        return
    fi
    mkdir -p "$work/shlibdeps/debian"
    printf 'Source: kes-agent\n\nPackage: %s\nArchitecture: any\n' "$1" >"$work/shlibdeps/debian/control"
    (cd "$work/shlibdeps" && dpkg-shlibdeps -O "$programs/$1" 2>/dev/null) | sed -n 's/^shlibs:Depends=//p'
}

# One Debian package from deploy/packages/NAME.control and NAME.MAINTAINERSCRIPT.
debian_package() {
    name=$1
    root=$work/$name
    sh "$here/stage.sh" "$name" "$programs" "$share" "$root" /usr
    doc=$root/usr/share/doc/$name
    mkdir -p "$doc" "$root/DEBIAN"
    install -m 644 "$here/copyright" "$doc/copyright"
    {
        printf 'kes-agent (%s) unstable; urgency=medium\n\n' "$version"
        printf '  * See CHANGELOG.gz beside this file.\n\n'
        printf ' -- %s  %s\n' "$maintainer" "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
    } | gzip -9n >"$doc/changelog.gz"
    gzip -9n <"$project/CHANGELOG.md" >"$doc/CHANGELOG.gz"
    [ ! -e "$here/$name.lintian-overrides" ] ||
        install -D -m 644 "$here/$name.lintian-overrides" "$root/usr/share/lintian/overrides/$name"
    for script in preinst postinst prerm postrm; do
        [ ! -e "$here/$name.$script" ] || install -m 755 "$here/$name.$script" "$root/DEBIAN/$script"
    done
    (cd "$root" && find etc -type f 2>/dev/null | sed 's|^|/|') >"$root/DEBIAN/conffiles"
    [ -s "$root/DEBIAN/conffiles" ] || rm "$root/DEBIAN/conffiles"
    (cd "$root" && find usr -type f -exec md5sum {} + | LC_ALL=C sort -k 2) >"$root/DEBIAN/md5sums"
    # As dpkg-gencontrol counts: what a file system makes of them is its own affair.
    size=$(cd "$root" && find . -path ./DEBIAN -prune -o -printf '%y %s\n' |
        awk '{ sum += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print sum }')
    sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" \
        -e "s/@MAINTAINER@/$maintainer/" -e "s/@LIBRARIES@/$(libraries "$name")/" \
        -e 's/^Depends: , /Depends: /' -e '/^Depends: *$/d' "$here/$name.control" >"$root/DEBIAN/control"
    find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group "-Z${COMPRESSION:-xz}" --build "$root" "$out/${name}_${version}_$architecture.deb" >/dev/null
}

tarball() {
    name=kes-agent-$version-linux-$(uname -m)
    root=$work/$name
    for package in kes-cli kes-agent; do
        sh "$here/stage.sh" "$package" "$programs" "$share" "$root" ''
    done
    install -m 644 "$project/LICENSE" "$project/README.md" "$project/CHANGELOG.md" "$root/"
    # Unpacked below /usr/local, as INSTALL says.
    cat >"$root/INSTALL" <<'INSTALL'
As root, in this folder:

    cp -r bin lib share /usr/local/
    [ -e /etc/kes-agent/agent.toml ] || install -D -m 644 etc/kes-agent/agent.toml /etc/kes-agent/agent.toml
    systemd-sysusers /usr/local/lib/sysusers.d/kes-agent.conf
    systemd-tmpfiles --create /usr/local/lib/tmpfiles.d/kes-agent.conf
    systemctl daemon-reload

The air-gapped machine needs bin/kes-cli alone.
INSTALL
    for unit in "$root"/lib/systemd/system/*; do
        sed -i 's|/bin/kes-|/usr/local/bin/kes-|g' "$unit"
    done
    (cd "$work" && tar --sort=name --owner=0 --group=0 --numeric-owner \
        --mtime="@$SOURCE_DATE_EPOCH" -c "$name") | gzip -9n >"$out/$name.tar.gz"
}

rm -f "$out"/*.deb "$out"/*.tar.gz "$out"/*.cdx.json "$out/SHA256SUMS"
if command -v dpkg-deb >/dev/null; then
    debian_package kes-cli
    debian_package kes-agent
else
    echo 'dpkg-deb is not here: only the tarball is made' >&2
fi
tarball
[ ! -e "$share/kes-agent.cdx.json" ] || install -m 644 "$share/kes-agent.cdx.json" "$out/kes-agent-$version.cdx.json"
(cd "$out" && set -- * && sha256sum -- "$@" >SHA256SUMS)
ls -l "$out"
