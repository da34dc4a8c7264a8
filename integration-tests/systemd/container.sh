# shellcheck shell=bash disable=SC2154 # the variables are run.sh's
# A Debian container with a real systemd in it, for the scripts beside this one.
#
# The base of a suite is made once, by debootstrap, under target/systemd/. Each container works on a
# copy of it, and ends with the script that started it, however that ends.

nspawns=()
leaders=()
container_packages=systemd,systemd-sysv,dbus,openssh-client,openssh-server,iproute2

# Ends the script with 77 and a line that says why, where containers cannot be had here.
container_prerequisites() {
    [ "$(id -u)" = 0 ] || container_skip 'containers need root'
    local tool
    for tool in debootstrap systemd-nspawn nsenter setpriv; do
        command -v "$tool" >/dev/null ||
            container_skip "$tool is missing (Debian: apt-get install debootstrap systemd-container)"
    done
}

container_skip() {
    echo "SKIPPED: the tests with a real systemd: $*"
    exit 77
}

# container_base SUITE: makes the base of a suite where it is not there yet. Sets $base.
container_base() {
    base=$cache/base-$1
    [ ! -e "$base/made" ] || return 0
    echo "making a base of Debian $1 (once)"
    rm -rf "$base"
    mkdir -p "$cache"
    if ! debootstrap --variant=minbase --include="$container_packages" "$1" "$base.part" \
        >"$base.log" 2>&1; then
        rm -rf "$base.part"
        tail -n 3 "$base.log"
        container_skip "debootstrap of $1 failed (is a Debian mirror within reach?)"
    fi
    rm -rf "$base.part/var/cache/apt/archives"
    touch "$base.part/made"
    mv "$base.part" "$base"
}

# container_copy NAME: a fresh root from $base in $root_NAME.
container_copy() {
    local root=$work/$1
    cp -a "$base" "$root"
    echo "$1" >"$root/etc/hostname"
    # Services of the base that a container has no use for and that would slow its start.
    ln -sf /dev/null "$root/etc/systemd/system/systemd-resolved.service"
    ln -sf /dev/null "$root/etc/systemd/system/ssh.service"
    printf -v "root_$1" %s "$root"
}

# container_boot NAME [nspawn option...]: boots it and waits until it has started. Sets
# $nspawn_NAME and $leader_NAME, the pids of nspawn and of its systemd.
container_boot() {
    local name=$1 root=root_$1 leader='' tries=0 nspawn
    shift
    # Locked memory, memfd_secret, Landlock and questions about the clock are not among what nspawn
    # allows by itself. Where this script is killed, nspawn is told and powers the container off.
    (
        container_enter_cgroup "$name"
        exec setpriv --pdeathsig TERM systemd-nspawn --quiet --directory "${!root}" --register=no \
            --keep-unit --machine "$name" \
            --system-call-filter='@memlock memfd_secret @sandbox clock_adjtime adjtimex' --boot "$@"
    ) </dev/null >>"$work/$name.console" 2>&1 &
    nspawn=$!
    nspawns+=("$nspawn")
    until leader=$(container_leader "$nspawn"); do
        tries=$((tries + 1))
        if [ "$tries" -ge 200 ] || ! kill -0 "$nspawn" 2>/dev/null; then
            cat "$work/$name.console"
            echo "the container does not start"
            exit 1
        fi
        sleep 0.1
    done
    printf -v "nspawn_$name" %s "$nspawn"
    printf -v "leader_$name" %s "$leader"
    leaders+=("$leader")
    until_true 60 container_has_booted "$name" || {
        cat "$work/$name.console"
        echo "the container's systemd does not come up"
        exit 1
    }
}

container_has_booted() {
    case $(run_in "$1" systemctl is-system-running 2>/dev/null) in
    running | degraded) ;;
    *) return 1 ;;
    esac
}

# The pid, here, of the init process below an nspawn.
container_leader() {
    local pid
    for pid in $(ps -o pid= --ppid "$1"); do
        if grep -qE '^NSpid:.*[[:space:]]1$' "/proc/$pid/status" 2>/dev/null; then
            echo "$pid"
            return
        fi
    done
    return 1
}

# run_in NAME COMMAND...: runs a command in a container, as its root.
run_in() {
    local leader=leader_$1
    shift
    nsenter --target "${!leader}" --mount --uts --ipc --net --pid -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@" </dev/null
}

# container_end NAME: pulls its plug.
container_end() {
    local leader=leader_$1 nspawn=nspawn_$1
    # The kernel ends everything in the container with its init process.
    kill -KILL "${!leader}" 2>/dev/null || true
    wait "${!nspawn}" 2>/dev/null || true
}

# For a trap: ends every container and removes what they worked on.
containers_clean() {
    local pid
    # Ending nspawn alone would leave the container running.
    for pid in "${leaders[@]}" "${nspawns[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
    done
    { wait; } 2>/dev/null
    rm -rf --one-file-system "$work"
    container_leave_cgroups
}

# Two containers in one control group would be one another's.
container_enter_cgroup() {
    local hierarchy
    for hierarchy in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
        [ -e "$hierarchy/cgroup.procs" ] || continue
        mkdir -p "$hierarchy/$(basename "$work")/$1"
        echo "$BASHPID" >"$hierarchy/$(basename "$work")/$1/cgroup.procs"
    done
}

container_leave_cgroups() {
    local hierarchy
    for hierarchy in /sys/fs/cgroup/unified /sys/fs/cgroup/systemd /sys/fs/cgroup; do
        find "$hierarchy/$(basename "$work")" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}

# until_true SECONDS COMMAND...: tries until the command succeeds.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}
