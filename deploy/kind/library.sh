# shellcheck shell=bash
# What up, story and down share: telling, waiting, asking a cluster. Sourced, with HERE set.

. "$HERE/settings.sh"
export KUBECONFIG=$STATE/kubeconfig

say() { printf '== %s\n' "$*"; }

# fail SENTENCE: one line, exit code 2.
fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# Every program that is missing in a line of its own, and what brings it.
need() {
    local missing=0 tool
    for tool; do
        command -v "$tool" >/dev/null && continue
        missing=1
        case $tool in
        kind) echo "$(basename "$0"): kind is missing: go install sigs.k8s.io/kind@latest, or its release page" >&2 ;;
        kubectl) echo "$(basename "$0"): kubectl is missing: kubernetes.io/docs/tasks/tools" >&2 ;;
        istioctl) echo "$(basename "$0"): istioctl is missing: istio.io/latest/docs/setup/getting-started, release 1.31" >&2 ;;
        *) echo "$(basename "$0"): $tool is missing" >&2 ;;
        esac
    done
    [ "$missing" = 0 ] || exit 2
}

need_engine() {
    local name
    if [ -z "$ENGINE" ]; then
        for name in docker podman; do
            command -v "$name" >/dev/null && ENGINE=$name && break
        done
    fi
    [ -n "$ENGINE" ] || fail "neither docker nor podman is installed: kind's nodes are their containers"
    "$ENGINE" info >/dev/null 2>&1 || fail "$ENGINE does not answer: is its service running, and may you use it?"
    [ "$ENGINE" != podman ] || export KIND_EXPERIMENTAL_PROVIDER=podman
}

# in_cluster CLUSTER WORD...: kubectl
in_cluster() {
    local cluster=$1
    shift
    kubectl --context "kind-$cluster" "$@"
}

# Not by a pipe to grep: what grep does not read to its end fails under pipefail.
exists() { [[ $'\n'$(kind get clusters 2>/dev/null)$'\n' == *$'\n'$1$'\n'* ]]; }

# quietly WHAT COMMAND...: output is shown when the command fails.
quietly() {
    local what=$1 log
    shift
    log=$STATE/last.log
    "$@" >"$log" 2>&1 || {
        tail -n 15 "$log" >&2
        fail "$what: failed; its last lines are above"
    }
}

# until_true SECONDS WHAT COMMAND...
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "$what: not within the time"
        sleep 1
    done
}

# The node's address in the engine's network.
node_address() {
    "$ENGINE" inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$1-control-plane"
}

# The address that the other cluster's proxies dial.
gateway_address() { echo "$(node_address "$1" | cut -d. -f1,2).${ADDRESS[$1]}"; }

other() { [ "$1" = cluster1 ] && echo cluster2 || echo cluster1; }

# gateway_of PROXY CLUSTER -> eastgate or envoy
gateway_of() {
    case $1 in
    mixed) [ "$2" = cluster1 ] && echo eastgate || echo envoy ;;
    *) echo "$1" ;;
    esac
}
