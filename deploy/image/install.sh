#!/bin/sh
# The steps of deploy/Dockerfile, which are the same on Debian and on the Ubuntu of Istio's proxyv2:
#   runtime    Python without a package manager for it, and the user of a mesh's proxies
#   compiler   what only the stage that compiles has
#   eastgate   /src into an environment at /opt/eastgate, stripped, with byte code (the root is read-only later)
#   commands   links to its commands where people and pilot-agent look
set -eu

TARGET=/opt/eastgate
export DEBIAN_FRONTEND=noninteractive

packages() {
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "$@"
    rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log
}

case ${1:-} in
runtime)
    # ca-certificates: the roots for istiods and control planes that have public certificates.
    packages python3-minimal libpython3-stdlib ca-certificates
    grep -q :1337: /etc/passwd || {
        echo "istio-proxy:x:1337:1337::/nonexistent:/usr/sbin/nologin" >>/etc/passwd
        echo "istio-proxy:x:1337:" >>/etc/group
    }
    ;;
compiler)
    packages gcc libc6-dev libssl-dev python3-dev python3-venv python3-pip
    ;;
eastgate)
    python3 -m venv --without-pip "$TARGET"
    python3 -m pip --python "$TARGET/bin/python3" install --no-cache-dir "/src[messages,tls]"
    find "$TARGET" -name '*.so' -exec strip --strip-unneeded {} +
    find "$TARGET" -name __pycache__ -prune -exec rm -rf {} +
    # Hashes: dates are not those of this build once layers are unpacked.
    python3 -m compileall -q --invalidation-mode unchecked-hash "$TARGET/lib"
    ;;
commands)
    for command in "$TARGET"/bin/eastgate*; do
        ln -s "$command" "/usr/local/bin/$(basename "$command")"
    done
    rm -f /tmp/install.sh
    eastgate --version
    ;;
*)
    echo "usage: install.sh runtime | compiler | eastgate | commands" >&2
    exit 2
    ;;
esac
