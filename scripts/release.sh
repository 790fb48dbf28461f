#!/usr/bin/env bash
# Checks everything, builds the wheel and the sdist into dist and tags the version of setup.cfg.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/venv.sh
use_venv dev

version=$(sed -n 's/^version = //p' setup.cfg)
if [ -n "$(git status --porcelain)" ]; then
  echo "Commit or remove your changes first: a release is what is committed." >&2
  exit 1
fi
if ! grep -q "^## \[$version\]" CHANGELOG.md; then
  echo "Say in CHANGELOG.md what is new, under '## [$version]'." >&2
  exit 1
fi
.ci/run
rm -rf dist
python -m build
git tag -a "v$version" -m "jaxmeta $version"
echo "Tagged v$version. Publish dist/* and push the tag."
