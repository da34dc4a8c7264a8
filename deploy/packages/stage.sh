#!/bin/sh
# Puts the files of one package below a root, with the programs below PREFIX there.
#
# Usage: stage.sh kes-agent|kes-cli PROGRAMS SHARE ROOT PREFIX
# PROGRAMS has the programs, SHARE the manual pages, completions and bill of materials (make man).
set -eu

package=$1 programs=$2 share=$3 root=$4 prefix=$5
deploy=$(cd "$(dirname "$0")/.." && pwd)

put() { install -D -m "$1" "$2" "$root$prefix/$3"; }

# The manual pages and completions of one program and all its commands.
manuals() {
    for page in "$share/man/man1/$1.1" "$share/man/man1/$1"-*.1; do
        case ${page##*/} in
            # A program of its own, whose name goes on.
            kes-agent-control*) [ "$1" = kes-agent-control ] || continue ;;
        esac
        name=${page##*/}
        install -d "$root$prefix/share/man/man1"
        gzip -9n <"$page" >"$root$prefix/share/man/man1/$name.gz"
        chmod 644 "$root$prefix/share/man/man1/$name.gz"
    done
    put 644 "$share/bash-completion/completions/$1" "share/bash-completion/completions/$1"
    put 644 "$share/zsh/vendor-completions/_$1" "share/zsh/vendor-completions/_$1"
    put 644 "$share/fish/vendor_completions.d/$1.fish" "share/fish/vendor_completions.d/$1.fish"
}

# A unit, with the programs where they are.
unit() {
    install -d "$root$prefix/lib/systemd/system"
    sed "s|/usr/bin/kes-|$prefix/bin/kes-|g" "$1" >"$root$prefix/lib/systemd/system/${1##*/}"
    chmod 644 "$root$prefix/lib/systemd/system/${1##*/}"
}

# One bill for both programs. Tests that package other programs make none.
bill=$share/kes-agent.cdx.json
[ ! -e "$bill" ] || put 644 "$bill" "share/doc/$package/kes-agent.cdx.json"

case $package in
    kes-cli)
        put 755 "$programs/kes-cli" bin/kes-cli
        ln -sf kes-cli "$root$prefix/bin/kes-agent-control"
        manuals kes-cli
        manuals kes-agent-control
        put 755 "$deploy/scripts/rotate.sh" share/kes-agent/rotate.sh
        ;;
    kes-agent)
        put 755 "$programs/kes-agent" bin/kes-agent
        manuals kes-agent
        for file in "$deploy"/systemd/*.service "$deploy"/systemd/*.socket \
            "$deploy"/systemd/*.timer; do
            unit "$file"
        done
        put 644 "$deploy/systemd/kes-agent.sysusers" lib/sysusers.d/kes-agent.conf
        put 644 "$deploy/systemd/kes-agent.tmpfiles" lib/tmpfiles.d/kes-agent.conf
        put 644 "$deploy/systemd/kes-agent-peers.sshd.conf" share/doc/kes-agent/examples/kes-agent-peers.sshd.conf
        put 644 "$deploy/monitoring/kes-agent.rules.yml" share/kes-agent/monitoring/kes-agent.rules.yml
        put 644 "$deploy/monitoring/kes-agent.dashboard.json" share/kes-agent/monitoring/kes-agent.dashboard.json
        for page in "$deploy"/guide/*.md; do
            put 644 "$page" "share/doc/kes-agent/guide/${page##*/}"
        done
        # An operator's settings are not overwritten (dpkg asks, where it is dpkg).
        [ -e "$root/etc/kes-agent/agent.toml" ] ||
            install -D -m 644 "$deploy/agent.toml" "$root/etc/kes-agent/agent.toml"
        ;;
    *)
        echo "stage.sh: no such package: $package" >&2
        exit 2
        ;;
esac
