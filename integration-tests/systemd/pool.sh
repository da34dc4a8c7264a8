# shellcheck shell=bash disable=SC2154 # the variables are run.sh's
# A pool in the container "pool": its agent, its operator, its node.

# install_agent ROOT: the programs, the units, the users, a cold key and settings.
install_agent() {
    local root=$1 units=$project/deploy/systemd
    install -m 755 "$programs/kes-agent" "$programs/kes-cli" "$root/usr/bin/"
    install -m 644 "$units"/*.service "$units"/*.socket "$units"/*.timer \
        "$root/usr/lib/systemd/system/"
    install -m 644 "$units/kes-agent.sysusers" "$root/usr/lib/sysusers.d/kes-agent.conf"
    install -m 644 "$units/kes-agent.tmpfiles" "$root/usr/lib/tmpfiles.d/kes-agent.conf"
    # Those whom the agent serves, and one whom it does not.
    cat >"$root/usr/lib/sysusers.d/test.conf" <<USERS
u node - "a node" - /bin/sh
m node kes-agent-service
u pool-operator - "an operator" - /bin/sh
m pool-operator kes-agent-control
u stranger - "somebody else" - /bin/sh
USERS
    systemd-sysusers --root="$root" 2>/dev/null
    mkdir -p "$root/etc/kes-agent" "$root/cold"
    # Periods of a day: none turns while the test runs.
    cat >"$root/etc/kes-agent/genesis.json" <<GENESIS
{ "systemStart": "$(date -u -d '10 days ago 2 hours ago' +%Y-%m-%dT%H:%M:%SZ)", "networkMagic": 42,
  "slotLength": 1, "slotsPerKESPeriod": 86400, "maxKESEvolutions": 62 }
GENESIS
    "$programs/kes-cli" cold key-gen \
        --cold-verification-key-file "$root/etc/kes-agent/cold.vkey" \
        --cold-signing-key-file "$root/cold/cold.skey" \
        --operational-certificate-issue-counter-file "$root/cold/cold.counter" >/dev/null
    cat >"$root/etc/kes-agent/agent.toml" <<SETTINGS
cold-vkey = "/etc/kes-agent/cold.vkey"
genesis-file = "/etc/kes-agent/genesis.json"
SETTINGS
    chmod 644 "$root"/etc/kes-agent/*
}

# A whole rotation by the operator; root plays the cold machine.
rotate() {
    local period=10
    cli keygen --json >/dev/null &&
        cli export-verkey --kes-verification-key-file - >"$root_pool/cold/kes.vkey" &&
        in_ kes-cli cold issue-op-cert --force --kes-verification-key-file /cold/kes.vkey \
            --cold-signing-key-file /cold/cold.skey \
            --operational-certificate-issue-counter-file /cold/cold.counter \
            --kes-period "$period" --out-file /cold/opcert.cert >/dev/null &&
        in_ chmod 755 /cold && in_ chmod 644 /cold/opcert.cert &&
        cli activate --json --opcert-file /cold/opcert.cert >/dev/null
}

# What a node gets now: verification key, certificate number and stamp.
served() {
    in_ runuser -u node -- kes-cli probe --json --wait 20 \
        --genesis-file /etc/kes-agent/genesis.json |
        grep -E '"(kes_verification_key|counter|stamp)"'
}

# The verification key that is pending.
pending_key() {
    cli status --json | sed -n '/"pending": {/,/}/p' | grep '"vkey"'
}

# Nothing is active and nothing pending.
holds_nothing() {
    local status
    status=$(cli status --json) || return 1
    [ "$(grep -c '"state": "empty"' <<<"$status")" = 2 ] || { echo "$status"; return 1; }
}

# A node that stays, and what it says in $work/node.
start_node() {
    : >"$work/node"
    in_ runuser -u node -- kes-cli probe --follow --json \
        --genesis-file /etc/kes-agent/genesis.json >"$work/node" 2>&1 &
}

# node_lines EVENT: how often the node has told of it.
node_lines() {
    grep -c "\"event\":\"$1\"" "$work/node" || true
}

# The node has, as the last key it was served, the one that is active.
node_has_key() {
    local fingerprint
    fingerprint=$(in_ runuser -u node -- kes-cli probe --json --wait 20 \
        --genesis-file /etc/kes-agent/genesis.json |
        sed -n 's/.*"fingerprint": "\([^"]*\)".*/\1/p')
    until_true 20 node_signs_with "${fingerprint:-nothing is served}" ||
        { echo "not $fingerprint:"; tail -n 5 "$work/node"; return 1; }
}

# The node's last signature was by the key with this fingerprint.
node_signs_with() {
    grep '"event":"signed"' "$work/node" | tail -n 1 | grep -qF "$1"
}

# after NAME COMMAND...: does something to the agent; then everything is as it was before, and the
# node, connected throughout, was served the same key again.
after() {
    local name=$1 keys now
    shift
    keys=$(node_lines key)
    check "$name" "$@"
    check "after $name: running" until_true 30 is_active kes-agent.service
    now=$(served 2>&1) || true
    check "after $name: the same key" is_same "$expected" "$now"
    check "after $name: the node was served again" until_true 20 node_was_served_after "$keys"
    check "after $name: the node signs with it" node_has_key
    now=$(pending_key 2>&1) || true
    check "after $name: the same pending key" is_same "$pending" "$now"
}

is_same() {
    [ "$1" = "$2" ] || { printf 'before:\n%s\nafter:\n%s\n' "$1" "$2"; return 1; }
}

node_was_served_after() {
    [ "$(node_lines key)" -gt "$1" ]
}

# --- The service -------------------------------------------------------------------------------

is_active() {
    in_ systemctl is-active --quiet "$1"
}

is_restarting() {
    [ "$(in_ systemctl show --value --property SubState kes-agent)" = auto-restart ]
}

main_pid() {
    in_ systemctl show --value --property MainPID kes-agent
}

is_another_process() {
    local pid
    pid=$(main_pid)
    [ "$pid" != 0 ] && [ "$pid" != "$1" ] && is_active kes-agent.service
}

# Kills the agent and waits until another one runs.
kill_agent() {
    local pid
    pid=$(main_pid)
    in_ systemctl kill --kill-who=main --signal=KILL kes-agent && until_true 30 is_another_process "$pid"
}

# How many descriptors systemd keeps for the agent.
stored() {
    in_ systemctl show --value --property NFileDescriptorStore kes-agent
}

# drop_in NAME LINE...: settings of the unit, for a while.
drop_in() {
    local name=$1
    shift
    in_ mkdir -p /run/systemd/system/kes-agent.service.d
    printf '%s\n' "$@" |
        nsenter_write "/run/systemd/system/kes-agent.service.d/$name.conf"
    in_ systemctl daemon-reload
}

nsenter_write() {
    # shellcheck disable=SC2154 # set by container_boot
    nsenter --target "$leader_pool" --mount -- /usr/bin/tee "$1" >/dev/null
}

sockets_are_closed() {
    ! is_active kes-agent-service.socket && ! is_active kes-agent-control.socket &&
        ! in_ test -e /run/kes-agent/service.socket && ! in_ test -e /run/kes-agent/control.socket
}

# The log of the agent has this text.
log_says() {
    in_ journalctl --no-pager --quiet --unit kes-agent | grep -qF "$1"
}
