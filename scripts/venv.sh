# shellcheck shell=bash
# Sourced by the other scripts, in the repository's root: `use_venv [EXTRA]` installs the package
# into .venv, made with $PYTHON if absent, and puts .venv first on the path.

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "jaxmeta needs Python 3.11 or newer: install it, or name it as in PYTHON=python3.12." >&2
  return 1
}

use_venv() {
  local extra=${1:-} python wanted installed
  export PIP_DISABLE_PIP_VERSION_CHECK=1
  if [ ! -x .venv/bin/python ]; then
    python=$(find_python)
    echo "Making .venv with $("$python" --version)."
    "$python" -m venv .venv
  fi
  # Nothing to install when the requirements have not changed since the last time.
  wanted=$(cat setup.cfg pyproject.toml constraints.txt scripts/venv.sh | cksum)
  installed=.venv/installed-${extra:-base}
  if [ "$wanted" != "$(cat "$installed" 2>/dev/null)" ]; then
    echo "Installing jaxmeta${extra:+[$extra]} into .venv; the first time takes some minutes."
    .venv/bin/python -m pip install -q -c constraints.txt -e ".${extra:+[$extra]}"
    echo "$wanted" >"$installed"
  fi
  PATH=$PWD/.venv/bin:$PATH
}
