#!/bin/sh
# The unsafe module (kes-wire/src/sys) and its users under AddressSanitizer, then leaks under
# valgrind where it is installed, then bugs put into a copy, each of which must be found.
#
# Usage: sanitize.sh, in the folder of the sources (make sanitize). The stable compiler's sanitizer
# is asked for with RUSTC_BOOTSTRAP; nothing that is shipped is built so. Minutes.
#
# What it does not see: libsodium's own C, which is built as always; the words before a guarded secret
# (memsec's canary), which are of the same allocation; data races (loom tries those of the hot key).
set -eu

project=$(pwd)
work=$project/target/sanitized
cargo=${CARGO:-cargo}
host=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$work"

# Guarded pages cannot be read, and the leak detector would read them: valgrind looks for leaks. An
# access to them ends the program as it must, and is told. Locals stay on the stack that they are on
# otherwise: what becomes of them there is tested.
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1
# AddressSanitizer makes mlock(2) do nothing, so that its effect cannot be tested.
unseen='--skip pages_are_locked_and_left_out_of_dumps'

# tests FOLDER LOG ARGUMENT...: runs tests of the sources there under the sanitizer.
tests() {
    folder=$1 log=$2
    shift 2
    (cd "$folder" && CARGO_INCREMENTAL=0 RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
        $cargo test --locked --target "$host" --target-dir "$work/build" "$@") >"$log" 2>&1
}

# passed LOG: how many tests.
passed() {
    sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' "$1" | awk '{ n += $1 } END { print n + 0 }'
}

failed=0
echo 'AddressSanitizer: kes-wire, and the agent that keeps keys in its memory'
# shellcheck disable=SC2086 # two words
if tests "$project" "$work/tests.log" -p kes-wire -p kes-agent --lib --test sum6kes -- $unseen; then
    echo "  $(passed "$work/tests.log") tests, nothing found"
else
    failed=1
    grep -E '^==.*ERROR|^test .*FAILED|^error' "$work/tests.log" | head -n 20
    echo "  see $work/tests.log"
fi

if command -v valgrind >/dev/null; then
    echo 'valgrind: leaks of the unsafe module'
    program=$($cargo test --locked -p kes-wire --lib --no-run 2>&1 |
        sed -n 's/^ *Executable unittests.*(\(.*\))$/\1/p')
    # It does not follow a change of stacks (kes-wire/src/sys/stack.rs): only leaks are asked for.
    (cd kes-wire && valgrind --undef-value-errors=no --leak-check=full \
        "$project/$program" --test-threads=1 sys:: sum6kes:: >"$work/leaks.log" 2>&1) || true
    lost=$(sed -n 's/.*definitely lost: \(.*\)/\1/p' "$work/leaks.log" | tail -n 1)
    echo "  $(passed "$work/leaks.log") tests, definitely lost: ${lost:-no report}"
    case $lost in '0 bytes in 0 blocks') ;; *) failed=1 ;; esac
else
    echo 'SKIPPED: leaks (valgrind is not installed)'
fi

# seeded NAME FILE OLD NEW: the sanitizer must find this change of a line.
seeded() {
    copy=$work/seeded
    rm -rf "$copy"
    mkdir "$copy"
    git ls-files -z | tar -c --null --verbatim-files-from -T - | tar -x -C "$copy"
    grep -qF "$3" "$copy/$2" || { echo "  $1: the line to change is not in $2"; failed=1; return; }
    awk -v old="$3" -v new="$4" \
        '{ at = index($0, old); if (at) $0 = substr($0, 1, at - 1) new substr($0, at + length(old)); print }' \
        "$project/$2" >"$copy/$2"
    if tests "$copy" "$work/$1.log" -p kes-wire --lib -- sys::; then
        echo "  $1: NOT found"
        failed=1
    elif grep -q 'ERROR: AddressSanitizer' "$work/$1.log"; then
        echo "  $1: found ($(sed -n 's/.*ERROR: AddressSanitizer: \([a-zA-Z-]*\).*/\1/p' "$work/$1.log" | head -n 1))"
    else
        echo "  $1: not run, see $work/$1.log"
        failed=1
    fi
}

echo 'Bugs put in:'
seeded freed-twice kes-wire/src/sys/memory.rs \
    'unsafe { memsec::free(self.bytes) }' 'unsafe { memsec::free(self.bytes); memsec::free(self.bytes) }'
seeded used-after-free kes-wire/src/sys/memory.rs 'fn free(self) {' \
    'fn free(self) { let at = self.bytes; if self.lift_guards() { unsafe { memsec::free(at); at.write(1) } } return;'
seeded cell-out-of-bounds kes-wire/src/sys/cells.rs \
    'page.wrapping_add(self.index)' 'page.wrapping_add(self.index + CELLS + 64)'
exit "$failed"
