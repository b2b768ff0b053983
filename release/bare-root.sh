#!/usr/bin/env bash
# Install a wheel into a bare Debian root without compiler, headers or network, and run what it installs. As root:
#
#   release/bare-root.sh WHEEL [PYTHON_FOLDER]
#
# Without PYTHON_FOLDER the root's own Python is used: that of Debian 12 (3.11) or 13 (3.13), whichever the wheel is for.
# A folder holds an interpreter that is no Debian package, as ~/.pyenv/versions/3.12.1. Dependencies are downloaded first,
# by the package client of this machine. SCENARIO=FILE runs another mesh file than the short one.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "bare-root.sh: $*" >&2
    exit 2
}

{ [ $# -ge 1 ] && [ -f "$1" ]; } || fail "expected WHEEL [PYTHON_FOLDER], and ${1:-nothing} is no file"
[ "$(id -u)" = 0 ] || fail "needs root, for the root file system and its network"
for tool in mmdebstrap unshare ip; do
    command -v "$tool" >/dev/null || fail "$tool is not installed (Debian: apt-get install mmdebstrap util-linux iproute2)"
done
wheel=$(realpath "$1") python_folder=${2:-}
tag=$(basename "$wheel" | cut -d- -f3)
scenario=$(realpath "${SCENARIO:-release/smoke.yaml}")
version=${tag#cp3}
case $tag:$python_folder in
cp311:) suite=bookworm packages=python3,python3-venv python=/usr/bin/python3 ;;
cp313:) suite=trixie packages=python3,python3-venv python=/usr/bin/python3 ;;
*:?*)
    suite=bookworm packages=libssl3,zlib1g,libffi8,libbz2-1.0,liblzma5,libsqlite3-0,libreadline8
    python=/opt/python/bin/python3
    ;;
*) fail "no Debian has a Python for $tag: name the folder of one" ;;
esac
root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT

echo "== root of Debian $suite"
mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$root" >/dev/null
for tool in gcc cc make; do
    [ ! -e "$root/usr/bin/$tool" ] || fail "the root is not bare: it has $tool"
done
[ -z "$python_folder" ] || cp -r "$python_folder" "$root/opt/python"

echo "== dependencies of $(basename "$wheel")"
mkdir "$root/wheels"
.venv/bin/python -m pip --disable-pip-version-check --quiet download --dest "$root/wheels" --only-binary=:all: \
    --python-version "3.$version" --implementation cp --abi "$tag" --abi abi3 --abi none --platform manylinux2014_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux_2_26_x86_64 --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_34_x86_64 "${wheel}[mesh]"
cp "$scenario" "$root/mesh.yaml"
cat >"$root/check.sh" <<CHECK
set -eu
export HOME=/root PIP_DISABLE_PIP_VERSION_CHECK=1
# An interpreter that was built with --enable-shared looks for its library where it was built.
${python_folder:+export LD_LIBRARY_PATH=/opt/python/lib}
$python -m venv /venv
/venv/bin/pip install --quiet --no-index --find-links /wheels eastgate
/venv/bin/eastgate --version
# Without extras: one line that names the extra.
! /venv/bin/eastgate mesh run /mesh.yaml 2>/said
[ "\$(wc -l </said)" = 1 ] && grep "pip install 'eastgate\[mesh\]'" /said
# Every native module loads, and all of them share the OpenSSL that the wheel brought.
/venv/bin/python - <<'PYTHON'
import importlib, pkgutil
import eastgate.fastpath, eastgate.xds
for package in (eastgate.fastpath, eastgate.xds):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)
maps = {line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps")}
ours = sorted(path for path in maps if "/eastgate.libs/" in path)
assert len(ours) == 2, ours
print("one OpenSSL:", *ours)
PYTHON
/venv/bin/pip install --quiet --no-index --find-links /wheels 'eastgate[mesh]'
/venv/bin/eastgate mesh run /mesh.yaml | tail -n 1
CHECK
echo "== installed and run without a network"
mount -t proc proc "$root/proc" && trap 'umount "$root/proc"; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
unshare --net sh -c 'ip link set lo up && exec chroot "$1" sh /check.sh' sh "$root"
echo "== $(basename "$wheel") works on a bare Debian $suite"
