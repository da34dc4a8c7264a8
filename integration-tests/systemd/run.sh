#!/usr/bin/env bash
# The real agent under a real systemd, in a container: what keeps the key and what forgets it.
#
# Usage: run.sh SUITE FOLDER-OF-PROGRAMS, where SUITE is trixie (systemd 257) or bookworm (252).
# Needs root, debootstrap and systemd-nspawn; ends with 77 where they are not to be had.
# Every check is a line; the exit code is 1 where one of them failed.
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

echo "== $suite =="
container_copy pool
install_agent "$root_pool"
container_boot pool
# shellcheck disable=SC2154 # set by container_boot
note "$(run_in pool systemctl --version | head -n 1)"
in_() { run_in pool "$@"; }
cli() { in_ runuser -u pool-operator -- kes-cli "$@"; }

# --- The units ---------------------------------------------------------------------------------

check 'systemd has nothing against the units' quiet in_ systemd-analyze verify --man=no \
    kes-agent.service kes-agent@pool.service kes-agent-peer@far.service
for unit in kes-agent.service kes-agent@pool.service; do
    check "$unit: exposure at most 0.5" \
        in_ systemd-analyze security --threshold=5 --no-pager "$unit"
done
check 'enabled and started' in_ systemctl enable --quiet --now kes-agent
check 'the service is running' is_active kes-agent.service
check 'both sockets come from systemd' \
    log_says 'service="inherited" control="inherited"'

# --- Who may connect ---------------------------------------------------------------------------

check 'an operator may give commands' cli status --json
check 'a node may not give commands' refused in_ runuser -u node -- kes-cli status
check 'an operator may not take the key' refused cli probe --wait 2
check 'another user may not give commands' refused in_ runuser -u stranger -- kes-cli status
check 'another user may not take the key' refused in_ runuser -u stranger -- kes-cli probe --wait 2
check 'nobody but root can move a socket away' refused \
    in_ runuser -u kes-agent -- rm /run/kes-agent/service.socket

# --- A rotation --------------------------------------------------------------------------------

start_node
check 'first rotation' rotate
check 'the node is served its key' node_has_key
first=$(served) || true
check 'second rotation' rotate
check 'the node is served the second key' node_has_key
expected=$(served) || true
check 'the second key is another one' [ "$first" != "$expected" ]
# What is pending is kept as well.
check 'a key is generated and pends' cli keygen --json
pending=$(pending_key) || true

# --- What keeps the key ------------------------------------------------------------------------

check 'the memory that holds the keys is in the descriptor store' [ "$(stored)" -ge 1 ]

after 'a restart' in_ systemctl restart kes-agent
after 'SIGKILL' kill_agent

ten_crashes() {
    local _
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill_agent || return 1
    done
}
after 'ten crashes, each at once after the last' ten_crashes

upgrade() {
    # As a package does it: another file in the place of the old one.
    cp "$root_pool/usr/bin/kes-agent" "$root_pool/usr/bin/kes-agent.new"
    mv "$root_pool/usr/bin/kes-agent.new" "$root_pool/usr/bin/kes-agent"
    in_ systemctl restart kes-agent
}
after 'an upgrade of the program' upgrade

hang() {
    local pid
    pid=$(main_pid)
    drop_in watchdog '[Service]' 'WatchdogSec=2s'
    in_ systemctl restart kes-agent || return 1
    # Longer than the watchdog waits: an agent that works is left alone.
    pid=$(main_pid)
    sleep 5
    [ "$(main_pid)" = "$pid" ] || { echo "killed although it works"; return 1; }
    in_ systemctl kill --kill-who=main --signal=STOP kes-agent
    until_true 30 is_another_process "$pid"
}
after 'a hang, ended by the watchdog' hang

broken_settings() {
    in_ sh -c 'echo "no-such-setting = 1" >>/etc/kes-agent/agent.toml'
    ! in_ systemctl restart kes-agent || return 1
    in_ sed -i '/no-such-setting/d' /etc/kes-agent/agent.toml
    # Nobody starts it: it is tried again and again.
    until_true 30 is_active kes-agent.service
}
after 'a restart with broken settings, which are then repaired' broken_settings

lines=$(node_lines key)
pid=$(main_pid)
check 'a reload succeeds' in_ systemctl reload kes-agent
check 'a reload is the same process' [ "$(main_pid)" = "$pid" ]
check 'a reload cuts no connection' [ "$(node_lines key)" = "$lines" ]
after_reload=$(served) || true
check 'after a reload: the same key' [ "$after_reload" = "$expected" ]

# --- Who connects meanwhile --------------------------------------------------------------------

waits_through() {
    drop_in slow '[Service]' 'RestartSec=3s'
    in_ systemctl kill --kill-who=main --signal=KILL kes-agent
    until_true 10 is_restarting || return 1
    # Refused if nobody listened; otherwise answered by the next agent.
    cli status --json >"$work/status"
}
check 'a command that comes while the agent is down waits for it' waits_through
in_ rm -rf /run/systemd/system/kes-agent.service.d
in_ systemctl daemon-reload

# --- What forgets the key ----------------------------------------------------------------------

check 'stopped' in_ systemctl stop kes-agent
check 'stopping closes the sockets' sockets_are_closed
check 'stopping empties the descriptor store' [ "$(stored)" = 0 ]
check 'a command does not start a stopped agent' refused cli status
check 'it stays stopped' refused is_active kes-agent.service
check 'started again' in_ systemctl start kes-agent
check 'the sockets are open again' cli status --json
check 'after a stop: no key' holds_nothing

# --- Several pools on a host -------------------------------------------------------------------

in_ cp /etc/kes-agent/agent.toml /etc/kes-agent/second.toml
check 'a second agent beside the first' in_ systemctl enable --quiet --now kes-agent@second
check 'the second agent answers at its own socket' \
    cli status --json --control-address /run/kes-agent/second/control.socket
check 'the second agent is stopped' in_ systemctl stop kes-agent@second
check 'its sockets are closed with it' \
    refused in_ systemctl is-active --quiet kes-agent-control@second.socket
check 'the first agent is not concerned' is_active kes-agent.service

report
