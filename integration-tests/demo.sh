#!/bin/sh
# A rotation from beginning to end, with the real programs, on a network of its own whose KES
# periods last 15 seconds instead of 36 hours. Usage: demo.sh FOLDER-OF-PROGRAMS
# The node is kes-wire's example forging_node, in the folder's examples/.
set -eu

bin=$(cd "$1" && pwd)
PATH=$bin:$bin/examples:$PATH
tmp=$(mktemp -d)
cd "$tmp"
mkdir hot usb cold
agent=; node=
finish() {
    [ -z "$node" ] || kill "$node" 2>/dev/null || true
    [ -z "$agent" ] || kill "$agent" 2>/dev/null || true
    wait
    rm -rf "$tmp"
}
trap finish EXIT
trap 'exit 1' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '  $ %s\n' "$*"; "$@" | sed 's/^/    /'; }
number() { sed -n "s/.*\"$1\": \([0-9][0-9]*\).*/\1/p" | head -n 1; }
# Waits until a line with $2 stands in file $1 after line $3, for at most 40 seconds.
await() {
    tries=0
    until tail -n "+$((${3:-0} + 1))" "$1" | grep -q "$2"; do
        tries=$((tries + 1))
        [ "$tries" -lt 400 ] || { echo "waited in vain for: $2"; cat "$1"; exit 1; }
        sleep 0.1
    done
}
lines() { wc -l <"$1"; }
# What the node said after line $1; a long row of signatures is shortened.
show_node() {
    tail -n "+$(($1 + 1))" hot/node.log | awk '
        /verifies/ && previous { held = $0; skipped++; next }
        { if (held) { if (skipped > 1) print "(" skipped - 1 " more)"; print held }
          held = ""; skipped = 0; previous = /verifies/; print }
        END { if (held) { if (skipped > 1) print "(" skipped - 1 " more)"; print held } }
    ' | sed -e 's/^[0-9-]* //' -e 's/^/    node: /'
}

cat >hot/genesis.json <<GENESIS
{ "systemStart": "$(date -u +%Y-%m-%dT%H:%M:%SZ)", "networkMagic": 42, "slotLength": 1,
  "slotsPerKESPeriod": 15, "maxKESEvolutions": 62 }
GENESIS
export KES_AGENT_CONTROL_PATH=$tmp/hot/control.socket
export KES_AGENT_SERVICE_PATH=$tmp/hot/service.socket
export KES_AGENT_GENESIS_FILE=$tmp/hot/genesis.json
export KES_AGENT_COLD_VK=$tmp/usb/cold.vkey

say '1. The pool has a cold key. It is made, and stays, on an air-gapped machine (folder cold/).'
run kes-cli cold key-gen --cold-verification-key-file usb/cold.vkey \
    --cold-signing-key-file cold/cold.skey \
    --operational-certificate-issue-counter-file cold/cold.counter

say '2. The agent starts on the hot machine (folder hot/). It knows the cold verification key.'
printf '  $ kes-agent run &\n'
kes-agent run >hot/agent.log &
agent=$!
await hot/agent.log 'agent ready'

rotate() {
    run kes-cli keygen
    run kes-cli export-verkey --kes-verification-key-file usb/kes.vkey --force
    echo '    (the stick is carried to the air-gapped machine)'
    period=$(kes-cli status --json | number current_period)
    run kes-cli cold issue-op-cert --kes-verification-key-file usb/kes.vkey \
        --cold-signing-key-file cold/cold.skey \
        --operational-certificate-issue-counter-file cold/cold.counter \
        --kes-period "$period" --out-file usb/opcert.cert --force
    echo '    (and back)'
    run kes-cli import-opcert --opcert-file usb/opcert.cert
    run kes-cli activate
}

say '3. First key: generated in the agent, certified by the cold key, activated.'
rotate

# The node writes on in one log over its restarts.
: >hot/node.log
start_node() {
    printf '  $ forging_node &     (a block producer that embeds kes-wire; chance makes it the leader)\n'
    forging_node >>hot/node.log &
    node=$!
}

say '4. A block producer connects, receives the key, and forges.'
start_node
await hot/node.log 'verifies'
show_node 0

say '5. The node restarts and is served again.'
before=$(lines hot/node.log)
kill "$node"; wait "$node" || true
start_node
await hot/node.log 'verifies' "$before"
show_node "$before"

steady=$(lines hot/node.log)

say '6. A KES period passes: node and agent evolve the key, each for itself.'
before=$(lines hot/node.log)
await hot/node.log 'KESInfo' "$before"
await hot/node.log 'verifies' "$(grep -n KESInfo hot/node.log | tail -n 1 | cut -d: -f1)"
show_node "$before"

say '7. The second rotation, under the connected node: it never stops forging.'
before=$(lines hot/node.log)
rotate
await hot/node.log 'ReceivedKey' "$before"
await hot/node.log 'verifies' "$(grep -n ReceivedKey hot/node.log | tail -n 1 | cut -d: -f1)"
show_node "$before"

say '8. What the agent says now.'
run kes-cli status

say '9. The agent stops. The node goes on with the key that it holds.'
before=$(lines hot/node.log)
printf '  $ kill AGENT\n'
kill "$agent"; wait "$agent" || true
agent=
await hot/node.log 'forging, not connected' "$before"
await hot/node.log 'verifies' "$(grep -n 'forging, not connected' hot/node.log | cut -d: -f1)"
show_node "$before" | grep -v AttemptReconnect
! tail -n "+$((steady + 1))" hot/node.log | grep 'not forged\|NOT VERIFY' || { echo 'The node had a gap.'; exit 1; }

say 'Done: every signature was verified. The one secret that was ever in a file is the cold key.'
