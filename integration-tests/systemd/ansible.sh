#!/usr/bin/env bash
# deploy/ansible with the real ansible-playbook over real ssh: three hosts with a real systemd, an
# agent on each, installed (from packages on one, from built programs on the others), configured,
# joined by tunnels, and rotated. A host that loses its power gets the key back from the others.
#
# Usage: ansible.sh SUITE FOLDER-OF-PROGRAMS, as run.sh; ansible-playbook must be in PATH. The
# containers share the host's network, so their sshd listen on loopback at ports of their own.
set -euo pipefail

suite=$1
programs=$(cd "$2" && pwd)
project=$(cd "$(dirname "$0")/../.." && pwd)
# The bases have Python in addition.
cache=$project/target/ansible
# shellcheck source=integration-tests/systemd/container.sh
. "$project/integration-tests/systemd/container.sh"
# shellcheck source=integration-tests/systemd/checks.sh
. "$project/integration-tests/systemd/checks.sh"
container_packages+=,python3

command -v ansible-playbook >/dev/null || container_skip 'ansible-playbook is missing (make test-ansible)'
container_prerequisites
container_base "$suite"
work=$(mktemp -d "$cache/run-XXXXXX")
trap 'containers_clean; rm -rf "${ANSIBLE_SSH_CONTROL_PATH_DIR:-}"' EXIT
trap 'exit 1' INT TERM HUP

# Ports that nobody listens on.
free_port() {
    local port
    while port=$((20000 + RANDOM % 20000)); ss -Hltn "sport = :$port" | grep -q .; do :; done
    echo "$port"
}

# --- Three hosts as an operator has them ---------------------------------------------------------

echo "== $suite, Ansible =="
ssh-keygen -q -t ed25519 -N '' -f "$work/operator"
port_producer=$(free_port)
port_backup=$(free_port)
port_third=$(free_port)
hosts='producer backup third'
for host in $hosts; do
    container_copy "$host"
    root=root_$host port=port_$host
    root=${!root}
    printf 'Port %s\nListenAddress 127.0.0.1\n' "${!port}" >"$root/etc/ssh/sshd_config.d/port.conf"
    # In the base's turn the service was masked.
    rm "$root/etc/systemd/system/ssh.service"
    chroot "$root" systemctl enable --quiet ssh
    install -d -m 700 "$root/root/.ssh"
    cp "$work/operator.pub" "$root/root/.ssh/authorized_keys"
    chroot "$root" useradd --system cardano
    chroot "$root" useradd --create-home pool-operator
    container_boot "$host"
done

mkdir "$work/cold" "$work/rotation"
# Periods of a day: none turns while the test runs.
cat >"$work/genesis.json" <<GENESIS
{ "systemStart": "$(date -u -d '10 days ago 2 hours ago' +%Y-%m-%dT%H:%M:%SZ)", "networkMagic": 42,
  "slotLength": 1, "slotsPerKESPeriod": 86400, "maxKESEvolutions": 62 }
GENESIS
"$programs/kes-cli" cold key-gen --cold-verification-key-file "$work/cold/cold.vkey" \
    --cold-signing-key-file "$work/cold/cold.skey" \
    --operational-certificate-issue-counter-file "$work/cold/cold.counter" >/dev/null
"$programs/manuals" "$work/share" >/dev/null
COMPRESSION=none sh "$project/deploy/packages/build.sh" "$programs" "$work/share" "$work/dist" 0.1.0 >/dev/null

# inventory LOG-LEVEL
inventory() {
    cat >"$work/inventory.yml" <<INVENTORY
kes_agents:
  hosts:
    producer:
      ansible_port: $port_producer
      kes_agent_packages: [$(printf '"%s",' "$work"/dist/kes-*.deb)]
      kes_agent_node_users: [cardano]
      kes_agent_operators: [pool-operator]
    backup:
      ansible_port: $port_backup
      kes_agent_programs: $programs
      kes_rotation_check: [--nodes, "0"]
    third:
      ansible_port: $port_third
      kes_agent_programs: $programs
      kes_rotation_check: [--nodes, "0"]
  vars:
    ansible_host: 127.0.0.1
    ansible_user: root
    ansible_ssh_private_key_file: $work/operator
    ansible_python_interpreter: /usr/bin/python3
    kes_agent_become: false
    kes_agent_cold_vkey: $work/cold/cold.vkey
    kes_agent_genesis: $work/genesis.json
    # Whether this machine's clock is synchronised is no matter of this test.
    kes_agent_settings: {log-level: $1, clock: trust}
    kes_agent_peers: "{{ groups['kes_agents'] | difference([inventory_hostname]) }}"
    kes_rotation_folder: $work/rotation
kes_rotated:
  hosts:
    producer:
INVENTORY
}
inventory info

export ANSIBLE_CONFIG=$project/deploy/ansible/ansible.cfg ANSIBLE_NOCOLOR=1
export ANSIBLE_HOST_KEY_CHECKING=False ANSIBLE_HOME=$work/home LC_ALL=C.UTF-8
# One connection for all tasks of a host, and one program for each task: a tenth of the time. The path
# of a control socket must be short.
ANSIBLE_SSH_CONTROL_PATH_DIR=$(mktemp -d)
export ANSIBLE_SSH_CONTROL_PATH_DIR ANSIBLE_PIPELINING=True
export ANSIBLE_SSH_ARGS='-o ControlMaster=auto -o ControlPersist=20s -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR'

# play PLAYBOOK [argument...]: runs it; what it said is in $work/said, and shown where it fails.
play() {
    local playbook=$1
    shift
    ansible-playbook --inventory "$work/inventory.yml" "$@" "$project/deploy/ansible/$playbook.yml" \
        </dev/null >"$work/said" 2>&1 || { grep -E 'fatal|ERROR' -A 3 "$work/said" || tail "$work/said"; return 1; }
}
# changes_nothing PLAYBOOK [argument...]
changes_nothing() {
    play "$@" || return 1
    ! grep -B 2 '^changed: ' "$work/said" && ! grep -E 'changed=[1-9]' "$work/said"
}
# changes PLAYBOOK [argument...]
changes() {
    play "$@" && grep -qE 'changed=[1-9]' "$work/said"
}
# Built programs are below /usr/local.
path=PATH=/usr/local/bin:/usr/bin:/bin
status_of() {
    run_in "$1" env "$path" kes-cli status --json
}
# The verification key that a host serves.
served_at() {
    run_in "$1" env "$path" KES_AGENT_GENESIS_FILE=/etc/kes-agent/shelley-genesis.json kes-cli probe --json --wait 2 |
        sed -n 's/.*"kes_verification_key": "\(.*\)".*/\1/p'
}
serves() { [ "$(served_at "$1" 2>/dev/null)" = "$2" ]; }
all_serve() {
    local at
    for at in $hosts; do
        until_true 60 serves "$at" "$1" || { echo "not at $at"; return 1; }
    done
}
# says WORDS: the last playbook said so.
says() {
    grep -qF "$1" "$work/said"
}
issue() {
    local period
    period=$(sed -n 's/^KES period to use: *\([0-9]*\).*/\1/p' "$work/rotation/producer/rotation.txt")
    "$programs/kes-cli" cold issue-op-cert --force \
        --kes-verification-key-file "$work/rotation/producer/kes.vkey" \
        --cold-signing-key-file "$work/cold/cold.skey" \
        --operational-certificate-issue-counter-file "$work/cold/cold.counter" \
        --kes-period "$period" --out-file "$work/rotation/producer/opcert.cert"
}

# --- Installed once ----------------------------------------------------------------------------

check 'a first check' play site --check
check 'has changed nothing' refused run_in producer test -e /etc/kes-agent
check 'the role installs, configures and starts' changes site
check 'run again, it changes nothing' changes_nothing site
check 'a check then finds nothing to change' changes_nothing site --check
for host in $hosts; do
    check "$host: the agent runs and will after a reboot" \
        run_in "$host" systemctl is-enabled --quiet kes-agent.service kes-agent-control.socket
done
check 'the operator may give commands' run_in producer runuser -u pool-operator -- kes-cli status
check 'the node may not' refused run_in producer runuser -u cardano -- kes-cli status
keeps_keys() { status_of "$1" | grep -A 2 'keeps the keys' | grep -q '"survives-restart"'; }
check 'producer: keys survive a restart' keeps_keys producer
check 'status fails where there is no key' refused play status

# --- Rotated -----------------------------------------------------------------------------------

check 'the first half' changes prepare
check 'it stops there and says what is to be done on the air-gapped machine' says 'STOP'
check 'run again, it changes nothing' changes_nothing prepare
check 'the second half without a certificate fails' refused play finish
check 'it says where the certificate is to be' says "$work/rotation/producer/opcert.cert"
echo '{}' >"$work/rotation/producer/opcert.cert"
check 'it fails with a damaged certificate' refused play finish
check 'the waiting key still waits' changes_nothing prepare
check 'the certificate is issued' issue
check 'the second half' changes finish
check 'run again, it changes nothing' changes_nothing finish
first=$(served_at producer) || true
check 'all agents serve the key' all_serve "$first"
check 'status is content' play status

# --- What does not cost the key ----------------------------------------------------------------

# The next key waits: it is in one agent only.
check 'the next rotation is begun' changes prepare
inventory warn
check 'a changed setting is taken over' changes site
check 'and then nothing is left to change' changes_nothing site
check 'all agents still serve the key' all_serve "$first"
check 'the waiting key still waits' changes_nothing prepare
SOURCE_DATE_EPOCH=$(date +%s) COMPRESSION=none sh "$project/deploy/packages/build.sh" \
    "$programs" "$work/share" "$work/dist" 0.1.1 >/dev/null
inventory warn
check 'an upgrade of the package' changes site
# shellcheck disable=SC2016 # dpkg-query's own
version_is() { run_in producer dpkg-query --show --showformat='${Version}' kes-agent | grep -qx "$1"; }
check 'it is installed' version_is 0.1.1
check 'after it all agents serve the key' all_serve "$first"
check 'after it the waiting key still waits' changes_nothing prepare
check 'the rotation is finished' issue
check 'with the next certificate' changes finish
second=$(served_at producer) || true
check 'it is another key' [ "$first" != "$second" ]
check 'all agents serve it' all_serve "$second"

# power_cut HOST...: all at once.
power_cut() {
    local at
    for at in "$@"; do container_end "$at"; done
    for at in "$@"; do container_boot "$at"; done
}
# Not as checks, which are in subshells: the new containers are for the rest to know.
container_end producer
check 'with a host down, status fails' refused play status
container_boot producer
check 'after a power cut the key comes back, without a hand' all_serve "$second"
power_cut backup third
check 'two agents without power at once get the key from the one that is left' all_serve "$second"
check 'status is content' play status
check 'and nothing is left to change' changes_nothing site

report
