#!/usr/bin/env bash
# The first-time path on a clean Debian, from the built packages to a forging stand-in node, with
# nothing but the commands that stand in the guide: they are taken out of its pages. Only what the
# guide takes for granted is made here: users, a stick, the pool's cold keys, its network's genesis.
#
# Usage: newcomer.sh SUITE FOLDER-OF-PROGRAMS FOLDER-OF-MANUALS, as package.sh.
set -euo pipefail

suite=$1
programs=$(cd "$2" && pwd)
share=$(cd "$3" && pwd)
project=$(cd "$(dirname "$0")/../.." && pwd)
cache=$project/target/systemd
# shellcheck source=integration-tests/systemd/container.sh
. "$project/integration-tests/systemd/container.sh"
# shellcheck source=integration-tests/systemd/checks.sh
. "$project/integration-tests/systemd/checks.sh"

container_prerequisites
command -v dpkg-deb >/dev/null || container_skip 'dpkg-deb is missing'
container_base "$suite"
work=$(mktemp -d "$cache/run-XXXXXX")
trap containers_clean EXIT
trap 'exit 1' INT TERM HUP

echo "== a newcomer on $suite =="
mkdir "$work/programs" "$work/guide"
cp "$programs/kes-agent" "$programs/kes-cli" "$work/programs/"
! command -v strip >/dev/null || strip "$work/programs/"*
# The guide names packages of this version.
COMPRESSION=gzip sh "$project/deploy/packages/build.sh" "$work/programs" "$share" "$work/packages" 0.1.0 >/dev/null
container_copy pool
# shellcheck disable=SC2154 # set by container_copy
cp "$work"/packages/*.deb "$root_pool/root/"
container_boot pool
in_() { run_in pool "$@"; }

# --- What the guide takes for granted ----------------------------------------------------------

in_ useradd --create-home cardano
# Debian has a group of this name.
in_ useradd --create-home --gid operator operator
in_ install -d -o operator /mnt/usb
in_ mkdir -p /etc/kes-agent /root/cold
"$programs/kes-cli" cold key-gen --cold-verification-key-file "$root_pool/root/cold.vkey" \
    --cold-signing-key-file "$root_pool/root/cold/cold.skey" \
    --operational-certificate-issue-counter-file "$root_pool/root/cold/cold.counter" >/dev/null
# The period is the one of the guide's example.
start=$(($(date +%s) - 1572 * 129600 - 3600))
cat >"$root_pool/etc/kes-agent/shelley-genesis.json" <<GENESIS
{ "systemStart": "$(date -u -d "@$start" +%Y-%m-%dT%H:%M:%SZ)", "networkMagic": 42,
  "slotLength": 1, "slotsPerKESPeriod": 129600, "maxKESEvolutions": 62 }
GENESIS

# --- The guide's commands ----------------------------------------------------------------------

# Each block of sh or toml of a page, as a file; those of a list are indented.
blocks_of() {
    awk -v out="$work/guide/$1" '
        { line = $0; sub(/^   /, "", line) }
        line ~ /^```/ && open { open = 0; close(file); next }
        line ~ /^```(sh|toml)/ { open = 1; count++; file = out "." count; printf "" >file; next }
        line ~ /^```/ { open = 1; file = "/dev/null"; next }
        open { print line >file }' "$project/deploy/guide/$1.md"
}
page() {
    page=$1
    block=0
    blocks_of "$page"
}
# Goes on to the next block, whose text is $text, and which has these words.
next_block() {
    block=$((block + 1))
    text=$(cat "$work/guide/$page.$block") || text=
    case $text in
    *"$1"*) ;;
    *) text="echo 'block $block of $page.md is not the one with: $1'; exit 99" ;;
    esac
}
# as USER FOLDER TEXT: runs it there as somebody who has just logged in.
as() {
    in_ runuser -u "$1" -- env HOME="$2" sh -euc "cd $2; $3"
}
# step WORDS USER FOLDER: runs the next block, which has these words.
step() {
    next_block "$1"
    check "$page.md: $1" as "$2" "$3" "$before$text"
}
page_is_used() {
    [ ! -e "$work/guide/$page.$((block + 1))" ] || { cat "$work/guide/$page.$((block + 1))"; return 1; }
}
# What a page has in backticks that begins so.
inline() {
    grep -o "\`$1[^\`]*\`" "$project/deploy/guide/$page.md" | head -n 1 | tr -d '`'
}
before=

page install
step 'apt-get install' root /root
check 'the guide is installed with it' diff -r "$project/deploy/guide" "$root_pool/usr/share/doc/kes-agent/guide"
next_block check-host
# It ends with 1 where something can be done better, which is so in a container.
check_host() {
    local code=0
    as root /root "$text" >"$work/host" || code=$?
    if [ "$code" -gt 1 ] || ! grep -q '^ok *secret-memory' "$work/host"; then
        cat "$work/host"
        return 1
    fi
}
check 'install.md: check-host' check_host
step 'install -m 644 cold.vkey' root /root
next_block genesis-file
check 'install.md: genesis-file' as root /root "cat >>/etc/kes-agent/agent.toml <<'TOML'
$text
TOML"
step 'usermod -aG kes-agent-service cardano' root /root
step 'systemctl enable --now kes-agent' root /root
step 'kes-cli status' operator /home/operator
step 'kes-cli status' operator /home/operator
check 'that was all of the page' page_is_used

page first-key
step 'kes-cli keygen' operator /home/operator
# The air-gapped machine, where root is the owner.
step 'cold issue-op-cert' root /root/cold
step 'kes-cli activate' operator /home/operator
before="$(inline 'export KES_AGENT_GENESIS_FILE')
"
step 'kes-cli probe' cardano /home/cardano
before=
step 'kes-cli status' operator /home/operator
check 'that was all of the page' page_is_used

page block-producer
# The node itself is not here: what the guide says can stand in for it.
next_block 'cardano-node run'
check 'block-producer.md: the socket is the one that the node is told' \
    as cardano /home/cardano "test -S $(sed -n 's/.*--shelley-kes-agent-socket \([^ ]*\).*/\1/p' <<<"$text")"
stand_in=$(inline 'kes-cli probe --follow')
genesis=$(page=first-key; inline 'export KES_AGENT_GENESIS_FILE')
as cardano /home/cardano "$genesis; $stand_in" >"$work/node" 2>&1 &
signs() { [ "$(grep -c 'signed with .* at period 1572, evolution 0: verifies' "$work/node")" -ge 3 ]; }
check 'the stand-in node forges' until_true 30 signs
step 'kes-cli check' operator /home/operator
check 'that was all of the page' page_is_used
is_confirmed() {
    local said
    said=$(as operator /home/operator 'kes-cli status')
    if ! grep -q 'Nodes *1 connected' <<<"$said" || ! grep -q confirmed <<<"$said"; then
        echo "$said"
        return 1
    fi
}
check 'one node is connected and has confirmed the key' is_confirmed

report
