#!/bin/sh
# Builds the wheel and installs it, with locked dependencies alone, into an empty
# environment. The Dockerfile runs it, and prove.sh runs it without docker.
#
#   install.sh TARGET LOCK    LOCK is run.lock; extras.lock has the extras `registry` and
#                             `tracing` too, sandbox.lock the local Klaviyo
set -eu
target=$1
lock=$2
here=$(cd "$(dirname "$0")" && pwd)
source=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

# Built from a copy with the build's own locked tools, so that nothing else gets in.
python3 -m venv "$work/tools"
tools="$work/tools/bin/python"
"$tools" -m pip install --quiet --require-hashes --only-binary :all: -r "$here/build.lock"
mkdir "$work/source"
cp -R "$source/pyproject.toml" "$source/README.md" "$source/pipeline" "$source/schemas" \
  "$work/source/"
"$tools" -m pip wheel --quiet --no-deps --no-build-isolation \
  --wheel-dir "$work/wheels" "$work/source"

# Without pip in it: what runs needs no way to install more.
python3 -m venv --without-pip "$target"
"$tools" -m pip --python "$target/bin/python" install --quiet \
  --require-hashes --only-binary :all: -r "$lock"
"$tools" -m pip --python "$target/bin/python" install --quiet --no-deps --no-index \
  "$work"/wheels/*.whl
"$tools" -m pip --python "$target/bin/python" check
