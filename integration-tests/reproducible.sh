#!/bin/sh
# Makes the packages twice from the same sources and compares what comes out, byte for byte. All
# differs that may: the folder of the sources, of what is built, of cargo's crates and of temporary
# files, the mask of permissions, time zone, language, and the moment.
#
# Usage: reproducible.sh, in the folder of the sources (make reproducible). Builds everything twice,
# with optimisation: minutes, and 2 GB below TMPDIR. What is committed is not asked for: the files
# that git knows are built as they are. The two builds are left in KES_REPRODUCIBLE_DIR, if that is set.
set -eu

project=$(pwd)
work=${KES_REPRODUCIBLE_DIR:-$(mktemp -d)}
mkdir -p "$work"
finish() { [ -n "${KES_REPRODUCIBLE_DIR:-}" ] || rm -rf "$work"; }
trap finish EXIT
trap 'exit 1' INT TERM HUP
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

# copy FOLDER: the sources, with the permissions that this shell's mask gives.
copy() {
    mkdir -p "$1"
    git -C "$project" ls-files -z --cached --others --exclude-standard |
        (cd "$project" && xargs -0 tar -c --no-recursion --) | tar -x --no-same-permissions -C "$1"
}

# make_dist NAME: builds below the folder of the sources $1, says where it is.
make_dist() {
    name=$1
    shift
    echo "building: $name"
    ("$@") >"$work/$name.log" 2>&1 || { tail -n 20 "$work/$name.log"; echo "the build $name fails"; exit 1; }
}

one=$work/one
make_one() {
    umask 022
    copy "$one"
    cd "$one"
    env -u CARGO_TARGET_DIR TZ=UTC LC_ALL=C make dist
}

two=$work/a/much/longer/way/to/the/second
make_two() {
    umask 077
    copy "$two/sources"
    cd "$two/sources"
    # The crates are the same, by another name.
    mkdir -p "$two/crates" "$two/temporary"
    ln -sfn "${CARGO_HOME:-$HOME/.cargo}/registry" "$two/crates/registry"
    temporary=$two/temporary
    # Another kind of file system, where there is one.
    [ ! -w /dev/shm ] || temporary=$(mktemp -d /dev/shm/kes-XXXXXX)
    TZ=Asia/Kathmandu LC_ALL=C.UTF-8 TMPDIR=$temporary CARGO_HOME=$two/crates \
        CARGO_TARGET_DIR=$two/built make dist && code=0 || code=$?
    rm -rf "$temporary"
    return "$code"
}

make_dist one make_one
make_dist two make_two
first=$one/target/dist second=$two/built/dist

# --- Compared ----------------------------------------------------------------------------------

differs=0
# same FILE WHERE WHERE NAME: compares two files.
same() {
    if cmp -s "$2" "$3"; then
        echo "same     $(sha256sum <"$2" | cut -c 1-16)  $1"
    else
        differs=$((differs + 1))
        echo "DIFFERS  $1: $(cmp "$2" "$3" 2>&1 | sed 's/.*differ: //' || true)"
        # What a text says of it is worth more than a number.
        strings -n 8 "$2" >"$work/strings-1" 2>/dev/null || return 0
        strings -n 8 "$3" >"$work/strings-2"
        diff "$work/strings-1" "$work/strings-2" | grep '^[<>]' | cut -c 1-150 | head -n 10 || true
    fi
}

# unpack ARCHIVE FOLDER
unpack() {
    rm -rf "${2:?}"
    mkdir "$2"
    case $1 in
        *.deb) dpkg-deb --raw-extract "$1" "$2" && dpkg-deb --contents "$1" >"$2.list" ;;
        *.tar.gz) tar -xzf "$1" -C "$2" && tar -tvzf "$1" >"$2.list" ;;
        *) : >"$2.list" ;;
    esac
}
# where FILE FILE: says which of the files in two archives differ, or their names, times, permissions.
where() {
    unpack "$1" "$work/first"
    unpack "$2" "$work/second"
    diff -r "$work/first" "$work/second" | cut -c 1-150 | head -n 20 || true
    diff "$work/first.list" "$work/second.list" | head -n 20 || true
}

for program in kes-agent kes-cli; do
    same "$program" "$one/target/release/$program" "$two/built/release/$program"
done
# Folders of the one that built would be in the programs.
for program in kes-agent kes-cli; do
    if grep -qaF -e "$work" -e "${CARGO_HOME:-$HOME/.cargo}/" "$one/target/release/$program"; then
        differs=$((differs + 1))
        echo "DIFFERS  $program: it names folders of the machine that built it"
    fi
done
for file in "$first"/* "$second"/*; do
    file=${file##*/}
    case " ${done:-} " in *" $file "*) continue ;; esac
    done="${done:-} $file"
    if [ ! -e "$first/$file" ] || [ ! -e "$second/$file" ]; then
        differs=$((differs + 1))
        echo "DIFFERS  $file: made by one build only"
        continue
    fi
    same "$file" "$first/$file" "$second/$file"
    cmp -s "$first/$file" "$second/$file" || where "$first/$file" "$second/$file"
done

[ "$differs" = 0 ] || { echo "not reproducible: $differs differ"; exit 1; }
echo 'reproducible: both builds are the same, byte for byte'
