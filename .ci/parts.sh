# Parts of a run of .ci/run, which sources this: what each took, which tests needed a second try, what was left out.
# The caller has an empty build/ci.
table=build/ci/minutes
printf '| part | minutes | of |\n| --- | --- | --- |\n' > "$table"
again=build/ci/again
left_out=
lane=
scratch=
: > "$again"
# Machines are shared: a test that fails is run once more. That is a fault of the test or worse, so the end names it, and
# few may need it.
export PYTEST_ADDOPTS="--reruns=1 -raR"
unsteady=3

step() { printf '\n== %s\n' "$*"; }

ended() {
    printf '| %s | %d:%02d | %s |\n' "$1" $((($SECONDS - $2) / 60)) $((($SECONDS - $2) % 60)) "$3" >> "$table"
}

# part NAME BUDGET COMMAND...: shown as it goes, kept in build/ci/NAME.log, and a line of the table.
part() {
    local name=$1 budget=$2 began=$SECONDS
    shift 2
    step "$name: $*"
    "$@" 2>&1 | tee "build/ci/$name.log"
    ended "$name" "$began" "$budget"
    sed -n "s/^RERUN \([^ ]*\).*/$name: \1/p" "build/ci/$name.log" | sort -u >> "$again"
    [ "$(wc -l < "$again")" -le "$unsteady" ] || { step "more than $unsteady tests passed only when run again" && exit 1; }
}

# in_time MINUTE NAME BUDGET COMMAND...: a part that begins before that minute of the run, or not at all.
in_time() {
    local minute=$1
    shift
    if [ "$SECONDS" -lt $((minute * 60)) ]; then
        part "$@"
    else
        left_out="$left_out $1"
        printf '| %s | left out: minute %d had passed | %s |\n' "$1" "$minute" "$2" >> "$table"
    fi
}

# The table, and at the very end how the tests ended: whoever reads only that line sees how many there were.
finish() {
    local code=$?
    [ -z "$lane" ] || kill -- "-$lane" 2>/dev/null || true
    [ -z "$scratch" ] || rm -rf "$scratch"
    step "where the time went"
    ended total 0 "60 cold, 40 warm"
    cat "$table"
    [ -z "$left_out" ] || step "left out for time, make nightly has them:$left_out"
    [ ! -s "$again" ] || { step "failed once, passed when run again" && cat "$again"; }
    [ "$code" != 0 ] || { step "everything passed; make test ended with" && tail -n 1 build/ci/tests.log; }
    exit "$code"
}
