#!/bin/sh
# Install packsweep from the bundle that this script lies in, without a network:
#
#     ./install.sh [VENV]                      a new virtual environment, .venv by default
#     PYTHON=python3.12 ./install.sh [VENV]    with this Python
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-.venv}
python=${PYTHON:-python3}
marker=.packsweep-bundle

wanted=$(cat "$here/made-for")
found=$("$python" -c 'import platform, sys
print(f"Python {sys.version_info.major}.{sys.version_info.minor} {platform.machine()}")') || found="not there"
if [ "$found" != "$wanted" ]; then
    echo "packsweep bundle: made for $wanted, but $python is $found; PYTHON=... names another" >&2
    exit 2
fi
# Cleared is only what this script made: other virtual environments are somebody's work.
if { [ -e "$venv" ] || [ -L "$venv" ]; } && [ ! -f "$venv/$marker" ]; then
    echo "packsweep bundle: $venv is there and no virtual environment of a bundle's; name another folder" >&2
    exit 2
fi
if ! (cd "$here" && sha256sum --check --quiet SHA256SUMS); then
    echo "packsweep bundle: damaged on its way; copy it again" >&2
    exit 2
fi

"$python" -m venv --clear "$venv"
: >"$venv/$marker"
# -I, --isolated: neither packages on PYTHONPATH nor an index of the user's own pip.conf count.
install() {
    "$venv/bin/python" -I -m pip install --isolated -qq --disable-pip-version-check --no-input \
        --no-index --find-links "$here/wheels" "$@"
}
for lock in "$here"/locked/*.txt; do
    install --no-deps --require-hashes -r "$lock"
done
for lock in "$here"/unhashed/*.txt; do
    [ -f "$lock" ] || continue # the pattern itself, where there is none
    # The conflicts are those that requirements/cpu-overrides.txt explains.
    install --no-warn-conflicts -r "$lock"
done
install --no-deps packsweep
version=$("$venv/bin/python" -I -c 'import importlib.metadata as m; print(m.version("packsweep"))')
echo "packsweep $version is in $venv; next:"
echo "  . $venv/bin/activate && packsweep plan $here/sweeps/quick.toml"
