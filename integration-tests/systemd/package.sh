#!/usr/bin/env bash
# The built packages in a container with a real systemd: installed, a rotation by rotate.sh, metrics,
# an upgrade that keeps the key, a removal that says what it loses.
#
# Usage: package.sh SUITE FOLDER-OF-PROGRAMS FOLDER-OF-MANUALS, with SUITE as for run.sh. Ends with 77
# where containers are not to be had.
set -euo pipefail

suite=$1
programs=$(cd "$2" && pwd)
share=$(cd "$3" && pwd)
project=$(cd "$(dirname "$0")/../.." && pwd)
cache=$project/target/systemd
nspawns=()
# shellcheck source=integration-tests/systemd/container.sh
. "$project/integration-tests/systemd/container.sh"
# shellcheck source=integration-tests/systemd/checks.sh
. "$project/integration-tests/systemd/checks.sh"
# shellcheck source=integration-tests/systemd/pool.sh
. "$project/integration-tests/systemd/pool.sh"

container_prerequisites
command -v dpkg-deb >/dev/null || container_skip 'dpkg-deb is missing'
container_base "$suite"
work=$(mktemp -d "$cache/run-XXXXXX")
trap containers_clean EXIT
trap 'exit 1' INT TERM HUP

echo "== packages on $suite =="
mkdir "$work/programs"
cp "$programs/kes-agent" "$programs/kes-cli" "$work/programs/"
! command -v strip >/dev/null || strip "$work/programs/"*
for version in 1.0.0 1.0.1; do
    COMPRESSION=gzip sh "$project/deploy/packages/build.sh" "$work/programs" "$share" \
        "$work/packages-$version" "$version" >/dev/null
done
container_copy pool
# shellcheck disable=SC2154 # set by container_copy
mkdir "$root_pool/packages"
cp "$work"/packages-*/*.deb "$root_pool/packages/"
container_boot pool
in_() { run_in pool "$@"; }
cli() { in_ runuser -u pool-operator -- kes-cli "$@"; }
install_packages() {
    in_ sh -c "dpkg --install --force-confold /packages/kes-*_$1_*.deb" >"$work/dpkg" 2>&1 ||
        { cat "$work/dpkg"; return 1; }
}
dpkg_says() { grep -qF "$1" "$work/dpkg" || { cat "$work/dpkg"; return 1; }; }

# --- Installed ---------------------------------------------------------------------------------

check 'both packages are installed' install_packages 1.0.0
check 'it says what to do next' dpkg_says 'systemctl enable --now kes-agent'
check 'the agent is not started unasked' refused is_active kes-agent.service
check 'the users are there' in_ getent group kes-agent-service kes-agent-control
check 'systemd has nothing against the units' quiet in_ systemd-analyze verify --man=no \
    kes-agent.service kes-agent@pool.service kes-agent-metrics.service kes-agent-metrics.timer \
    kes-agent-metrics@pool.service kes-agent-metrics@pool.timer kes-agent-clock.service \
    kes-agent-clock.timer kes-agent-clock@pool.service kes-agent-clock@pool.timer

in_ useradd --groups kes-agent-service node
in_ useradd --groups kes-agent-control,kes-agent-service pool-operator
in_ mkdir /cold /stick
in_ chown pool-operator /stick
in_ kes-cli cold key-gen --cold-verification-key-file /etc/kes-agent/cold.vkey \
    --cold-signing-key-file /cold/cold.skey \
    --operational-certificate-issue-counter-file /cold/cold.counter >/dev/null
nsenter_write /etc/kes-agent/genesis.json <<GENESIS
{ "systemStart": "$(date -u -d '10 days ago 2 hours ago' +%Y-%m-%dT%H:%M:%SZ)", "networkMagic": 42,
  "slotLength": 1, "slotsPerKESPeriod": 86400, "maxKESEvolutions": 62 }
GENESIS
in_ sed -i 's/^#genesis-file = .*/genesis-file = "\/etc\/kes-agent\/genesis.json"/' /etc/kes-agent/agent.toml
check 'enabled and started with the settings that came with it' \
    in_ systemctl enable --quiet --now kes-agent

check 'the clock is looked after with it' until_true 10 is_active kes-agent-clock.timer
clock_unit() { in_ systemctl show --value --property "$1" kes-agent-clock.service; }
clock_was_asked() { [ -n "$(clock_unit ExecMainExitTimestamp)" ]; }
clock_is_asked_well() { until_true 20 clock_was_asked && is_same "$(clock_unit Result)" success; }
check 'the kernel is asked about it at once' clock_is_asked_well
# The unit's own sandbox lets the question through.
clock_is_answered() { in_ journalctl --quiet --unit kes-agent-clock | grep -qE 'kernel does not call|agent.s time is'; }
check 'and it answers' clock_is_answered

# --- A rotation by the script ------------------------------------------------------------------

by_script() {
    in_ runuser -u pool-operator -- env KES_AGENT_GENESIS_FILE=/etc/kes-agent/genesis.json \
        KES_AGENT_COLD_VK=/etc/kes-agent/cold.vkey sh /usr/share/kes-agent/rotate.sh "$1" /stick
}
start_node
check 'rotate.sh prepare' by_script prepare
check 'the certificate is issued' in_ kes-cli cold issue-op-cert \
    --kes-verification-key-file /stick/kes.vkey --cold-signing-key-file /cold/cold.skey \
    --operational-certificate-issue-counter-file /cold/cold.counter --kes-period 10 \
    --out-file /stick/opcert.cert
check 'rotate.sh finish' by_script finish
check 'the node is served the key' node_has_key
expected=$(served) || true
check 'a key is generated and pends' cli keygen --json
pending=$(pending_key) || true

# --- Metrics -----------------------------------------------------------------------------------

metrics=/var/lib/prometheus/node-exporter/kes-agent.prom
metrics_say() { in_ grep -qx "$1" "$metrics"; }
in_ mkdir -p /var/lib/prometheus/node-exporter
check 'the timer is enabled' in_ systemctl enable --quiet --now kes-agent-metrics.timer
check 'metrics are written once' in_ systemctl start kes-agent-metrics.service
check 'the agent is up in them' metrics_say 'kes_agent_up 1'
check 'everybody may read them' in_ runuser -u node -- cat "$metrics"

# --- Upgraded ----------------------------------------------------------------------------------

upgraded=$(main_pid)
check 'an upgrade' install_packages 1.0.1
check 'the agent was restarted by it' [ "$(main_pid)" != "$upgraded" ]
check 'after the upgrade: running' until_true 30 is_active kes-agent.service
now=$(served 2>&1) || true
check 'after the upgrade: the clock is looked after' until_true 10 is_active kes-agent-clock.timer
check 'after the upgrade: the same key' is_same "$expected" "$now"
now=$(pending_key 2>&1) || true
check 'after the upgrade: the same pending key' is_same "$pending" "$now"
check 'after the upgrade: the node signs with it' node_has_key
check 'the settings are the same' in_ grep -q '^genesis-file' /etc/kes-agent/agent.toml

# --- Removed -----------------------------------------------------------------------------------

# What a stop does is tried without one, which forgets keys: the second pool's agent has none.
not_reached() { in_ systemctl start kes-agent-clock@other.service; }
check 'an agent that is not there is no failure of its clock unit' not_reached
check 'nor does systemd call it one' refused in_ systemctl is-failed --quiet kes-agent-clock@other.service
remove() { in_ sh -c "dpkg --$1 kes-agent" >"$work/dpkg" 2>&1 || { cat "$work/dpkg"; return 1; }; }
check 'removed' remove remove
check 'it says that the keys are forgotten' dpkg_says 'FORGOTTEN'
check 'it says which' dpkg_says 'Active    key '
check 'the agent is stopped' refused is_active kes-agent.service
check 'nobody looks after the clock any more' refused is_active kes-agent-clock.timer
check 'its sockets are gone' refused in_ test -e /run/kes-agent/service.socket
check 'the settings are still there' in_ test -e /etc/kes-agent/agent.toml
check 'the commands are still there' in_ kes-cli --version
check 'purged' remove purge
check 'nothing of its state is left' refused in_ test -e /var/lib/kes-agent

report
