# shellcheck shell=bash disable=SC2154 # the variables are run.sh's
# Checks as lines, and their sum.

passed=0
failed=0

# check NAME COMMAND...: a line for a command that must succeed; what it wrote, where it does not.
check() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "ok      $name"
    else
        failed=$((failed + 1))
        echo "FAILED  $name"
        [ -z "$output" ] || head -n 20 <<<"$output" | while IFS= read -r line; do note "$line"; done
    fi
}

note() {
    echo "        $*"
}

# The command fails.
refused() {
    ! "$@"
}

# The command succeeds and writes nothing.
quiet() {
    local output
    output=$("$@" 2>&1) || { echo "$output"; return 1; }
    [ -z "$output" ] || { echo "$output"; return 1; }
}

# The sum; fails where a check has failed.
report() {
    echo "$suite: $passed passed, $failed failed"
    [ "$failed" = 0 ]
}
