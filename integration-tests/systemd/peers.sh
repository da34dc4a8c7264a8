#!/usr/bin/env bash
# Two hosts, each with an agent of one pool, joined by real OpenSSH tunnels: each keeps the other's
# key alive over a reboot.
#
# Usage: peers.sh SUITE FOLDER-OF-PROGRAMS, as run.sh. The containers share the host's network, so
# their sshd listen on loopback at ports of their own.
set -euo pipefail

suite=$1
programs=$(cd "$2" && pwd)
project=$(cd "$(dirname "$0")/../.." && pwd)
cache=$project/target/systemd
# shellcheck source=integration-tests/systemd/container.sh
. "$project/integration-tests/systemd/container.sh"
# shellcheck source=integration-tests/systemd/checks.sh
. "$project/integration-tests/systemd/checks.sh"
# shellcheck source=integration-tests/systemd/pool.sh
. "$project/integration-tests/systemd/pool.sh"

container_prerequisites
container_base "$suite"
work=$(mktemp -d "$cache/run-XXXXXX")
trap containers_clean EXIT
trap 'exit 1' INT TERM HUP

# at HOST: what follows happens there.
at() {
    local root=root_$1
    host=$1
    # shellcheck disable=SC2034 # used in pool.sh
    root_pool=${!root}
}
in_() { run_in "$host" "$@"; }
cli() { in_ runuser -u pool-operator -- kes-cli "$@"; }

# Ports that nobody listens on.
free_port() {
    local port
    while port=$((20000 + RANDOM % 20000)); ss -Hltn "sport = :$port" | grep -q .; do :; done
    echo "$port"
}
# shellcheck disable=SC2034 # used by join, by name
port_one=$(free_port)
port_two=$(free_port)

# Nothing vouches for the clock in a container (the kernel is not asked there), and a key that came
# from a peer would be served after five minutes only: clock = "trust".

# join HOST OTHER: HOST follows the agent of OTHER, and OTHER lets it in.
join() {
    local here=root_$1 there=root_$2 port=port_$2
    here=${!here} there=${!there}
    mkdir -p "$here/etc/kes-agent/peers"
    ssh-keygen -q -t ed25519 -N '' -C "tunnel from $1" -f "$here/etc/kes-agent/peers/id_ed25519"
    chroot "$here" chown -R kes-agent-peer: /etc/kes-agent/peers
    echo "[127.0.0.1]:${!port} $(cut -d ' ' -f 1,2 "$there/etc/ssh/ssh_host_ed25519_key.pub")" \
        >"$here/etc/kes-agent/peers/known_hosts"
    cat >"$here/etc/kes-agent/ssh_config" <<CONFIG
Host $2
    HostName 127.0.0.1
    Port ${!port}
    User kes-agent-guest
    IdentityFile /etc/kes-agent/peers/id_ed25519
    UserKnownHostsFile /etc/kes-agent/peers/known_hosts
CONFIG
    cat >>"$here/etc/kes-agent/agent.toml" <<SETTINGS
bootstrap-paths = ["/run/kes-agent-peer/$2/service.socket"]
peer-users = ["kes-agent-guest"]
clock = "trust"
SETTINGS
    # The far side.
    cp "$here/etc/kes-agent/peers/id_ed25519.pub" "$there/etc/kes-agent/authorized_keys"
    install -m 644 "$project/deploy/systemd/kes-agent-peers.sshd.conf" \
        "$there/etc/ssh/sshd_config.d/kes-agent-peers.conf"
    printf 'Port %s\nListenAddress 127.0.0.1\n' "${!port}" >"$there/etc/ssh/sshd_config.d/port.conf"
    rm "$there/etc/systemd/system/ssh.service"
}

echo "== $suite, two hosts =="
for host in one two; do
    container_copy "$host"
    root=root_$host
    install_agent "${!root}"
done
# The same pool.
# shellcheck disable=SC2154 # set by container_copy
cp "$root_one/etc/kes-agent/"{genesis.json,cold.vkey} "$root_two/etc/kes-agent/"
rm -rf "$root_two/cold"
cp -a "$root_one/cold" "$root_two/"
join one two
join two one
container_boot one
container_boot two
for host in one two; do
    [ "$host" = one ] && other=two || other=one
    check "host $host: sshd, the agent and its tunnel are enabled and started" \
        in_ systemctl enable --quiet --now ssh kes-agent "kes-agent-peer@$other"
done


# --- A key goes round --------------------------------------------------------------------------

# is_served_everywhere: both hosts serve $expected.
is_served_everywhere() {
    local at
    for at in one two; do
        until_true 40 serves "$at" "$expected" || { echo "not at host $at"; return 1; }
    done
}
# serves HOST WHAT
serves() {
    at "$1"
    [ "$(served 2>/dev/null)" = "$2" ]
}

at one
check 'a rotation at host one' rotate
expected=$(served) || true
check 'both hosts serve the same key' is_served_everywhere

# follows_as_peer HOST: its one client is a peer agent, told from a node by the tunnel's user.
follows_as_peer() {
    local status
    at "$1"
    status=$(cli status --json) || return 1
    grep -q '"connected_nodes": 0,' <<<"$status" && grep -q '"is_peer": true' <<<"$status" &&
        refused grep -q '"is_peer": false' <<<"$status"
}
check 'the peer that follows host one is no node there' until_true 40 follows_as_peer one
check 'nor is the one that follows host two' until_true 40 follows_as_peer two

# --- What the tunnel lets through --------------------------------------------------------------

# as_peer SSH-ARGUMENT...: what a host that has been broken into could try with its key.
as_peer() {
    in_ runuser -u kes-agent-peer -- \
        timeout 5 ssh -F /etc/kes-agent/ssh_config -o BatchMode=yes -o LogLevel=ERROR "$@"
}
# reaches SOCKET COMMAND...: the command succeeds at /tmp/try.socket, which is forwarded there.
reaches() {
    local socket=$1 tunnel reached=1
    shift
    in_ rm -f /tmp/try.socket
    as_peer -N -L "/tmp/try.socket:$socket" two &
    tunnel=$!
    if until_true 4 in_ test -S /tmp/try.socket; then
        in_ runuser -u kes-agent-peer -- "$@" && reached=0
    fi
    wait "$tunnel" || true
    return "$reached"
}
at one
check 'the service socket is reached through the tunnel' reaches /run/kes-agent/service.socket \
    kes-cli probe --service-address /tmp/try.socket --genesis-file /etc/kes-agent/genesis.json
check 'the control socket is not' refused reaches /run/kes-agent/control.socket \
    kes-cli status --control-address /tmp/try.socket
check 'nor the socket of the message bus' refused reaches /run/dbus/system_bus_socket \
    busctl --address=unix:path=/tmp/try.socket list
check 'no command is run for a peer' refused as_peer two true
check 'no TCP connection is made for a peer' refused as_peer -W "127.0.0.1:$port_two" two

# --- What is lost and comes back ---------------------------------------------------------------

# power_cut HOST
power_cut() {
    container_end "$1"
    container_boot "$1"
}
for host in two one; do
    # Not in a subshell, as check would: the new container is for the rest to know.
    power_cut "$host"
    check "host $host lost its power and is back" is_active kes-agent.service
    check "after that: both hosts serve the same key, without a hand" is_served_everywhere
done

at one
check 'the tunnel of host one is killed' \
    in_ systemctl kill --kill-who=main --signal=KILL kes-agent-peer@two
at two
check 'a rotation at host two meanwhile' rotate
expected=$(served) || true
check 'both hosts serve the new key' is_served_everywhere

at two
check 'the key is dropped at host two' cli drop-active --json
is_dropped_at_one() {
    at one
    cli status --json | grep -q '"state": "dropped"'
}
check 'and so it is at host one' until_true 60 is_dropped_at_one
power_cut one
check 'it does not come back with a reboot of host one' until_true 60 is_dropped_at_one

report
