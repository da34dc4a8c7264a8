#!/bin/sh
# Builds the programs as they are shipped. They name no folder of the machine that builds. Whether the
# same sources make the same programs, make reproducible says.
#
# Usage: programs.sh, in the folder of the sources. Called by make build. Environment:
#   CARGO             the cargo to use
#   CARGO_TARGET_DIR  where to build (default target)
#   RUSTFLAGS         further flags for every crate
set -eu

cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
home=${CARGO_HOME:-$HOME/.cargo}
platform=$(rustc -vV | sed -n 's/^host: //p')
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')

# A program says where an error arose: there the folders of this machine would stand. The crates are
# fetched first, so that the folder they are in is known.
$cargo fetch --locked --quiet --target "$platform"
mkdir -p "$target"
target=$(cd "$target" && pwd)
flags=$(printf '%s' "${RUSTFLAGS:-}" | tr -s ' ' '\037')
says_instead() {
    flags=${flags:+$flags$(printf '\037')}--remap-path-prefix=$1=$2
}
says_instead "$(pwd)" kes-agent
says_instead "$target" target
for registry in "$home"/registry/src/*; do
    [ ! -d "$registry" ] || says_instead "$registry" crates
done
# The standard library's sources, where rustup has brought them.
says_instead "$(rustc --print sysroot)/lib/rustlib/src/rust" "/rustc/$commit"
unset RUSTFLAGS
export CARGO_ENCODED_RUSTFLAGS="$flags"

# Linked statically, with the addresses that are mended at the start packed: why is in
# spec/decisions/0010-static-programs.md.
for program in kes-agent kes-cli; do
    $cargo rustc --release --locked -p "$program" --bin "$program" -- \
        -C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs
done
