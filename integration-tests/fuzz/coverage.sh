#!/bin/sh
# Which lines of the parsing code the fuzzing inputs reach: the seeds, the corpus and, where make fuzz
# has run here, what it found. Prints a table by file, and with --missed every line that is not reached.
#
# Needs `cov` of the crate llvm_profparser (cargo install llvm_profparser), which reads what the
# compiler's -Cinstrument-coverage leaves, without LLVM's own tools. Functions that do not parse stand
# in these files too (names, writers, files by path): 100 % is not to be expected.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/target/fuzz/covered
cargo=${CARGO:-cargo}
command -v cov >/dev/null || { echo 'SKIPPED: cov is missing (cargo install llvm_profparser)'; exit 0; }
targets=$(sed -n 's/^    ("\([a-z-]*\)", .*/\1/p' "$here/../src/fuzzed/mod.rs")

host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS=-Cinstrument-coverage $cargo build --release --locked --manifest-path "$here/Cargo.toml" \
 --target "$host" --target-dir "$work/build"
program=$work/build/$host/release/fuzz

rm -rf "$work/inputs" "$work/profiles"
mkdir -p "$work/profiles"
profiles=
for target in $targets; do
    inputs=$work/inputs/$target
    mkdir -p "$inputs"
    KES_FUZZ_TARGET=$target KES_FUZZ_SEEDS=$inputs LLVM_PROFILE_FILE=/dev/null "$program"
    # Inputs that are named are run once each.
    find "$inputs" "$here/../corpus/$target" "$root/target/fuzz/found/$target" -type f -print0 2>/dev/null |
        KES_FUZZ_TARGET=$target LLVM_PROFILE_FILE=$work/profiles/$target-%p.profraw \
            xargs -0 -n 2000 "$program" >"$work/$target.log" 2>&1
done
for profile in "$work"/profiles/*.profraw; do
    profiles="$profiles --instr-profile $profile"
done
# shellcheck disable=SC2086 # names without blanks
cov show $profiles --object "$program" >"$work/lines.txt"

# Lines look like "   12|   340|code"; a file's begin with its path. What is behind the tests' module
# is not the program's.
awk -v root="$root/" -v missed="${1:-}" '
    function is_parsing(file) {
        return file ~ /^kes-wire\/src\/(protocol\/|envelope|genesis|opcert|sum6kes\/(layout|tree|sign_key))/ ||
            file ~ /^kes-agent\/src\/(kept\/|config\/file)/
    }
    /^\// { file = index($0, root) == 1 ? substr($0, length(root) + 1) : ""; sub(/ *$/, "", file); next }
    file == "" || !is_parsing(file) { next }
    {
        if (split($0, part, "|") < 3) next
        code = substr($0, length(part[1]) + length(part[2]) + 3)
        if (code ~ /^#\[cfg\(test\)\]/) { file = ""; next }
        count = part[2]; gsub(/ /, "", count)
        if (count == "") next
        lines[file]++
        if (count != "0") reached[file]++
        else if (missed == "--missed") print file ":" part[1] + 0 ":" code
    }
    END {
        for (file in lines) {
            printf "%-55s %5d of %5d lines %5.1f %%\n", file, reached[file], lines[file], 100 * reached[file] / lines[file] | "sort"
            all += lines[file]; hit += reached[file]
        }
        close("sort")
        if (all) printf "%-55s %5d of %5d lines %5.1f %%\n", "all", hit, all, 100 * hit / all
    }' "$work/lines.txt"
