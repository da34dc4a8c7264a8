#!/bin/sh
# The conformance kit against our own agent, node and commands. Usage: conformance.sh FOLDER-OF-PROGRAMS
# The node is kes-wire's example forging_node, in the folder's examples/.
set -eu

bin=$(cd "$1" && pwd)
PATH=$bin:$bin/examples:$PATH
tmp=$(mktemp -d)
agent=
finish() {
    [ -z "$agent" ] || kill "$agent" 2>/dev/null || true
    wait
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM
cd "$tmp"

# A network of 20 seconds a KES period, of which 100 have passed.
start=$(date -u -d @$(($(date +%s) - 2000)) +%Y-%m-%dT%H:%M:%SZ)
cat >genesis.json <<GENESIS
{ "systemStart": "$start", "networkMagic": 42, "slotLength": 1,
  "slotsPerKESPeriod": 20, "maxKESEvolutions": 62 }
GENESIS
kes-cli cold key-gen --cold-verification-key-file cold.vkey --cold-signing-key-file cold.skey \
    --operational-certificate-issue-counter-file cold.counter >/dev/null
export KES_AGENT_GENESIS_FILE=$tmp/genesis.json KES_AGENT_COLD_VK=$tmp/cold.vkey
export KES_AGENT_CLOCK=trust HOME="$tmp"

kes-agent run --service-address "$tmp/service.socket" --control-address "$tmp/control.socket" \
    --bootstrap-address "$tmp/peer.socket" >agent.log 2>&1 &
agent=$!
tries=0
until [ -S control.socket ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 200 ] || { echo 'The agent does not start:'; cat agent.log; exit 1; }
    sleep 0.1
done

status=0
# What is tried, and the kit's arguments. The last line of each table is told again at the end.
try() {
    what=$1
    shift
    echo "$what:"
    conformance "$@" >table || status=1
    cat table
    echo
    echo "$what: $(tail -n 1 table)" >>summary
}

try 'Our agent' \
    agent --service-socket service.socket --control-socket control.socket \
    --peer-socket peer.socket --genesis-file genesis.json --may-change \
    --cold-signing-key cold.skey --slow
try 'Our node (kes-wire, forging_node)' \
    client --listen node.socket --genesis-file genesis.json --cold-signing-key cold.skey \
    -- forging_node --service-address "$tmp/node.socket"
try 'kes-cli probe --follow' \
    client --listen probe.socket --genesis-file genesis.json --cold-signing-key cold.skey \
    -- kes-cli probe --follow --service-address "$tmp/probe.socket" --cold-verification-key cold.vkey
export KES_AGENT_CONTROL_PATH=$tmp/kit.socket
try 'kes-cli' \
    control-client --listen kit.socket --status 'kes-cli status' --generate 'kes-cli keygen' \
    --install 'kes-cli activate --opcert-file OPCERT' --drop-active 'kes-cli drop-active'
mkdir links
ln -s "$bin/kes-cli" links/kes-agent-control
PATH=$tmp/links:$PATH
try "kes-cli in the reference's manner" \
    control-client --listen kit.socket --status 'kes-agent-control info' \
    --generate 'kes-agent-control gen-staged-key --kes-verification-key-file -' \
    --install 'kes-agent-control install-key --opcert-file OPCERT' \
    --drop-active 'kes-agent-control drop-key'
cat summary
exit "$status"
