#!/bin/sh
# Makes the packages once more from the same sources and compares what comes out, byte for byte, with
# what make dist has made. All differs that may: the folder of the sources, of what is built, of
# cargo's crates and of temporary files, the mask of permissions, time zone, language, the moment.
#
# Usage: reproducible.sh FOLDER, with what make dist makes (FOLDER/release, FOLDER/dist), in the folder
# of the sources (make reproducible). Builds everything with optimisation: minutes, and 2 GB below
# TMPDIR. The files that git knows are built as they are, committed or not.
set -eu

project=$(pwd)
first=$(cd "$1" && pwd)
work=$(mktemp -d)
temporary=
trap 'rm -rf "$work" "$temporary"' EXIT
trap 'exit 1' INT TERM HUP
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

# copy FOLDER: the sources, with the permissions that this shell's mask gives.
copy() {
    mkdir -p "$1"
    git -C "$project" ls-files -z --cached --others --exclude-standard |
        (cd "$project" && tar -c --no-recursion --null --verbatim-files-from -T -) |
        tar -x --no-same-permissions -C "$1"
}

# Another kind of file system, where there is one.
[ ! -w /dev/shm ] || temporary=$(mktemp -d /dev/shm/kes-XXXXXX)
away=$work/a/much/longer/way/to/the/sources
second=$work/built
make_again() {
    umask 077
    copy "$away"
    cd "$away"
    # The crates are the same, by another name.
    mkdir "$work/crates"
    ln -s "${CARGO_HOME:-$HOME/.cargo}/registry" "$work/crates/registry"
    TZ=Asia/Kathmandu LC_ALL=C.UTF-8 TMPDIR=${temporary:-$work} CARGO_HOME=$work/crates \
        CARGO_TARGET_DIR=$second make dist
}
echo 'building again, elsewhere'
(make_again) >"$work/log" 2>&1 || { tail -n 20 "$work/log"; echo 'the build fails there'; exit 1; }

# --- Compared ----------------------------------------------------------------------------------

differs=0
# same NAME FILE FILE: compares two files.
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
    same "$program" "$first/release/$program" "$second/release/$program"
done
# Folders of the one that built would be in the programs.
for program in kes-agent kes-cli; do
    if grep -qaF -e "$project" -e "${CARGO_HOME:-$HOME/.cargo}/" "$first/release/$program"; then
        differs=$((differs + 1))
        echo "DIFFERS  $program: it names folders of the machine that built it"
    fi
done
compared=
for file in "$first"/dist/* "$second"/dist/*; do
    file=${file##*/}
    case " $compared " in *" $file "*) continue ;; esac
    compared="$compared $file"
    if [ ! -e "$first/dist/$file" ] || [ ! -e "$second/dist/$file" ]; then
        differs=$((differs + 1))
        echo "DIFFERS  $file: made by one build only"
        continue
    fi
    same "$file" "$first/dist/$file" "$second/dist/$file"
    cmp -s "$first/dist/$file" "$second/dist/$file" || where "$first/dist/$file" "$second/dist/$file"
done

[ "$differs" = 0 ] || { echo "not reproducible: $differs differ"; exit 1; }
echo 'reproducible: both builds are the same, byte for byte'
