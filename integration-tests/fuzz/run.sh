#!/bin/sh
# Runs every target for its share of so many seconds, on the corpus and what it leads to, and keeps
# what is new and small in the corpus. Prints a table; fails where something was found.
# Usage: run.sh SECONDS
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/target/fuzz
cargo=${CARGO:-cargo}
targets=$(sed -n 's/^    ("\([a-z-]*\)", .*/\1/p' "$here/../src/fuzzed/mod.rs")
share=$(($1 / $(echo "$targets" | wc -l)))
[ "$share" -gt 0 ] || share=1

# Coverage as libFuzzer wants it, by the stable compiler. The target is named so that build scripts
# are built without.
host=$(rustc -vV | sed -n 's/^host: //p')
RUSTFLAGS='-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
 -Ccodegen-units=1' $cargo build --release --locked --manifest-path "$here/Cargo.toml" \
 --target "$host" --target-dir "$work/build"
program=$work/build/$host/release/fuzz

printf '%-20s %10s %12s %8s %8s %9s\n' target seconds executions edges inputs findings
failed=0
for target in $targets; do
    found=$work/found/$target corpus=$here/../corpus/$target artifacts=$work/artifacts/$target
    mkdir -p "$found" "$corpus" "$artifacts"
    KES_FUZZ_TARGET=$target KES_FUZZ_SEEDS=$found "$program"
    KES_FUZZ_TARGET=$target "$program" "$found" "$corpus" -max_total_time="$share" -max_len=2048 \
     -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="$artifacts/" \
     >"$work/$target.log" 2>&1 || true
    # Keeps what adds coverage, smallest first.
    rm -rf "$work/merged" && mkdir -p "$work/merged"
    KES_FUZZ_TARGET=$target "$program" -merge=1 -max_len=1024 "$work/merged" "$corpus" "$found" \
     >"$work/$target.merge.log" 2>&1 || true
    if [ "${KES_FUZZ_KEEP:-}" = yes ] && [ -n "$(ls "$work/merged")" ]; then
        rm -f "$corpus"/* && cp "$work/merged"/* "$corpus"
    fi
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$target.log")
    edges=$(grep -o 'cov: [0-9]*' "$work/$target.log" | tail -n 1 | cut -d' ' -f2)
    inputs=$(find "$work/merged" -type f | wc -l)
    findings=$(find "$artifacts" -type f | wc -l)
    printf '%-20s %10s %12s %8s %8s %9s\n' \
     "$target" "$share" "${executions:-0}" "${edges:-0}" "$inputs" "$findings"
    [ "$findings" -eq 0 ] && [ -n "$executions" ] || failed=1
done
[ "$failed" -eq 0 ] || echo "something was found: see $work/artifacts and the logs beside it" >&2
exit "$failed"
