#!/bin/sh
# Rotates the KES key of a stake pool with a USB stick, in two halves:
#
#   rotate.sh prepare FOLDER   on the hot machine: a new key waits in the agent; its verification
#                              key, the period to use and a fingerprint are written to FOLDER
#   (issue the certificate on the air-gapped machine; FOLDER/rotation.txt has the command)
#   rotate.sh finish FOLDER    on the hot machine: imports FOLDER/opcert.cert, activates the key,
#                              waits until every connected node has confirmed it, and proves that
#                              the agent serves it
#
# Every step is asked of the agent, which remembers what is half done: after an interruption at any
# point, run the same command again. Run twice, the second time changes nothing.
#
# Needs kes-cli and coreutils. Environment:
#   KES_CLI     the program, where it is not kes-cli
#   KES_WAIT    seconds to wait for the nodes (default 60)
#   KES_AGENT_CONTROL_PATH, KES_AGENT_SERVICE_PATH, KES_AGENT_COLD_VK, KES_AGENT_GENESIS_FILE
#               as for kes-cli
#
# Exit codes: 0 done. 20: the key is scheduled and becomes active by itself; run finish again after
# that to have it verified. 21: a node has not confirmed, or declined. 22: the agent serves another
# key than it should. 23: FOLDER cannot be used. 24: there is nothing to finish, or a rotation is
# already half finished. 2: the command line is wrong. Any other: kes-cli's, of the step that failed
# (kes-cli --help lists them).
# The kes_NAME variables come from kes-cli status --format shell, which sets all of them each time.
# shellcheck disable=SC2154
set -eu

cli=${KES_CLI:-kes-cli}
wait=${KES_WAIT:-60}

main() {
    [ $# -eq 2 ] || usage
    folder=$2
    vkey_file=$folder/kes.vkey
    opcert_file=$folder/opcert.cert
    note_file=$folder/rotation.txt
    case $1 in
        prepare) prepare ;;
        finish) finish ;;
        *) usage ;;
    esac
}

usage() {
    printf 'Usage: rotate.sh prepare FOLDER\n       rotate.sh finish FOLDER\n' >&2
    exit 2
}

say() { printf '%s\n' "$*"; }

fail() {
    code=$1 sentence=$2 next=$3
    printf 'Error: %s\nNext:  %s\n' "$sentence" "$next" >&2
    exit "$code"
}

# Runs kes-cli. Its error, which says what to do next, is the last that is said.
run() {
    "$cli" "$@" && return
    code=$?
    exit "$code"
}

# The agent's state, as kes_NAME variables.
ask() {
    state=$("$cli" status --format shell) || exit $?
    eval "$state"
}

# --- The first half ---------------------------------------------------------------------------

prepare() {
    # Found out before a key is generated, not after.
    [ -d "$folder" ] || fail 23 "$folder is not a folder" 'mount the stick, and name its folder'
    [ -w "$folder" ] ||
        fail 23 "$folder cannot be written to" 'mount the stick for writing, or run this as a user who may write to it'
    stick=$(identity_of_folder)

    ask
    case $kes_pending_state in
        certified)
            fail 24 "key $kes_pending_fingerprint and its certificate wait in the agent already" \
                "put it to use: rotate.sh finish $folder"
            ;;
        scheduled)
            fail 24 "key $kes_pending_fingerprint is scheduled for period $kes_pending_start_period already" \
                "wait until $kes_pending_starts_at_utc; to give it up: kes-cli drop-pending"
            ;;
        empty)
            run keygen --if-absent >/dev/null
            say "1. Generated a KES key in the agent."
            ;;
        *) say "1. A KES key waits in the agent already: it is used." ;;
    esac

    set_certificate_of_another_key_aside
    run export-verkey --kes-verification-key-file "$vkey_file" --force >/dev/null
    # The period may have changed since, and the fingerprint is that of the key that is there now.
    ask
    [ -n "$kes_pending_fingerprint" ] ||
        fail 24 'the pending key is gone from the agent' 'run the same command again; see the log of the agent'
    write_note
    sync
    # Unmounted meanwhile, the folder beneath was written to and not the stick.
    [ "$(identity_of_folder)" = "$stick" ] ||
        fail 23 "$folder is another file system than before: the stick was pulled out" \
            'mount it, and run the same command again: the key waits'
    say "2. Written to $folder: kes.vkey and rotation.txt."
    say ''
    note
    say ''
    say "Then bring $folder back, and on this machine: rotate.sh finish $folder"
    say 'Until then the agent must keep running: a stopped agent forgets the waiting key.'
}

identity_of_folder() { stat -c %d:%i -- "$folder" 2>/dev/null || echo none; }

# A certificate that was issued for another key would be refused later; it is kept under another
# name. One for this very key is left where it is.
set_certificate_of_another_key_aside() {
    [ -e "$opcert_file" ] || return 0
    waiting=$("$cli" export-verkey --kes-verification-key-file - 2>/dev/null) || waiting=
    there=$(cat -- "$vkey_file" 2>/dev/null) || there=
    [ -n "$waiting" ] && [ "$waiting" = "$there" ] && return 0
    mv -f -- "$opcert_file" "$opcert_file.old" ||
        fail 23 "$opcert_file is of an earlier rotation and cannot be moved" 'move it away, and run the same command again'
    say "   (opcert.cert is of an earlier rotation: now opcert.cert.old)"
}

# What the person at the air-gapped machine needs.
note() {
    current='the current one'
    # An older kes-cli does not tell.
    [ "${kes_clock_trusted:-}" != no ] ||
        current="the current one by the hot machine's clock, which nothing vouches for: compare it with a watch"
    cat <<NOTE
On the air-gapped machine, in the stick's folder:

    kes-cli cold issue-op-cert --kes-verification-key-file kes.vkey \\
        --cold-signing-key-file COLD.SKEY \\
        --operational-certificate-issue-counter-file COLD.COUNTER \\
        --kes-period $kes_current_period --out-file opcert.cert

(With cardano-cli: the same options after "cardano-cli node issue-op-cert".)

Fingerprint of the key:   $kes_pending_fingerprint
                          It must be the one that the air-gapped machine shows.
KES period to use:        $kes_current_period  ($current, until $kes_period_ends_at_utc)
Last certificate number:  ${kes_highest_number:-none known}
Pool:                     $kes_pool_id
NOTE
}

# Written beside its place and renamed, so that it is there whole or not at all.
write_note() {
    part=$note_file.part
    if note >"$part" 2>/dev/null && mv -f -- "$part" "$note_file"; then
        return
    fi
    rm -f -- "$part" || true
    fail 23 "$note_file cannot be written" 'check that the stick has room and can be written to, and run the same command again: the key waits'
}

# --- The second half --------------------------------------------------------------------------

finish() {
    ask
    case $kes_pending_state in
        key)
            [ -r "$opcert_file" ] ||
                fail 23 "$opcert_file is not there, or cannot be read" \
                    'issue it on the air-gapped machine (see rotation.txt), and bring it back'
            run import-opcert --opcert-file "$opcert_file" >/dev/null
            say '1. Imported the certificate.'
            ;;
        certified)
            # Another one than was imported is refused: perhaps it is the better one.
            [ ! -r "$opcert_file" ] || run import-opcert --opcert-file "$opcert_file" >/dev/null
            say '1. The certificate is imported already.'
            ;;
        scheduled) say '1. The key is scheduled already.' ;;
        *)
            # Activated by an earlier run, or by the certificate's period having begun.
            [ "$kes_active_state" = serving ] ||
                fail 24 'no key waits in the agent' "begin with: rotate.sh prepare $folder"
            is_active_certificate ||
                fail 24 'no key waits in the agent, and the active one is not of this certificate' \
                    "a restart may have lost the waiting key: begin with rotate.sh prepare $folder; kes-cli status shows what is active"
            say '1. The certificate is active already.'
            ;;
    esac

    ask
    if [ "$kes_pending_state" = certified ]; then
        expected=$kes_pending_vkey
        run activate
        ask
        if [ "$kes_pending_state" != scheduled ] && [ "$kes_active_vkey" != "$expected" ]; then
            fail 22 "the active key is $kes_active_fingerprint, not the one that was activated" \
                'see kes-cli status and the log of the agent: another command may have come in between'
        fi
        say "2. Activated key ${kes_active_fingerprint:-}."
    fi
    if [ "$kes_pending_state" = scheduled ]; then
        say "2. Scheduled: key $kes_pending_fingerprint becomes active by itself at $kes_pending_starts_at_utc."
        say "   Run the same command again after that, to have it verified."
        exit 20
    fi

    await_nodes
    verify
    say "Done: certificate number $kes_active_number, valid until $kes_active_expires_at_utc."
}

# Whether the certificate on the stick is the active one. The agent answers so to an activation of
# what is active, and changes nothing.
is_active_certificate() {
    [ -r "$opcert_file" ] || return 1
    said=$("$cli" activate --opcert-file "$opcert_file" --json 2>/dev/null) || return 1
    case $said in
        *'"changed": false'*) return 0 ;;
        *) return 1 ;;
    esac
}

await_nodes() {
    left=$wait
    while [ "$kes_nodes_behind" -gt 0 ] && [ "$left" -gt 0 ]; do
        sleep 1
        left=$((left - 1))
        ask
    done
    [ "$kes_nodes_behind" -eq 0 ] ||
        fail 21 "$kes_nodes_behind of $kes_nodes connected nodes have not confirmed the key" \
            'the key is active; see the log of the node, and run the same command again'
    [ "$kes_nodes_declined" -eq 0 ] ||
        fail 21 "$kes_nodes_declined of $kes_nodes connected nodes have declined the key" \
            'the key is active; the log of the node says why'
    if [ "$kes_nodes" -eq 0 ]; then
        say '3. No node is connected: one that connects is given the key.'
    else
        say "3. Confirmed by every connected node: $kes_nodes."
    fi
}

# Takes the key as a node would, and signs with it.
verify() {
    proof=$("$cli" probe --json) || {
        code=$?
        printf '%s\n' "$proof" >&2
        fail "$code" 'the key is active, but the probe failed' \
            'kes-cli probe says why; it must be run by a user who may open the service socket'
    }
    case $proof in
        *"\"kes_verification_key\": \"$kes_active_vkey\""*) ;;
        *) fail 22 'the agent serves another key than the active one' 'run the same command again; see kes-cli status' ;;
    esac
    say "4. The agent serves key $kes_active_fingerprint, and its signature verifies."
}

main "$@"
