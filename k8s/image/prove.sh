#!/bin/sh
# The image's steps without docker: installs as the Dockerfile does, then runs the program
# from there with an empty environment.
#
#   prove.sh [run.lock|extras.lock|sandbox.lock]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
lock=${1:-run.lock}
target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
"$here/install.sh" "$target/env" "$here/$lock"

cd "$target"
alone() { env -i PATH="$target/env/bin" PYTHONDONTWRITEBYTECODE=1 "$@"; }
alone klaviyo-pipeline --help >help.txt
alone klaviyo-pipeline run --help >>help.txt
! alone python -c 'import pip' 2>error.txt || { echo "pip is in it" >&2; exit 1; }
! alone python -c 'import pytest' 2>>error.txt || { echo "tools are in it" >&2; exit 1; }
# It starts, reads its settings and says what is missing: exit code 2, not a traceback.
code=0
alone klaviyo-pipeline run >out.txt 2>&1 || code=$?
[ "$code" = 2 ] || { cat out.txt >&2; echo "exit code $code, expected 2" >&2; exit 1; }
[ "$lock" != sandbox.lock ] || alone python -c 'import pipeline.sandbox'
[ "$lock" != extras.lock ] || alone python -c 'import pipeline.observe.tracing, fastavro'
echo "installed from $lock and started: $(du -sm env | cut -f1) MiB"
