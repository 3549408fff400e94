#!/bin/sh
# Install learn2learn for `make bench`: install_learn2learn.sh PYTHON
#
# Its release holds C that Cython wrote for older Pythons, which no compiler takes from
# Python 3.11 on. Cython writes it again here, from the sources that lie beside it.
set -eu
python=${1:?expected a Python to install into, got none; pass .venv/bin/python}
case $python in */*) python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

pip() { "$python" -m pip --quiet --disable-pip-version-check "$@"; }

pip install --target "$work/cython" 'cython>=3'
pip download --no-deps --no-binary learn2learn --dest "$work" learn2learn==0.2.0
tar -xzf "$work/learn2learn-0.2.0.tar.gz" -C "$work"
cd "$work/learn2learn-0.2.0"
PYTHONPATH=$work/cython "$python" -m cython -3 learn2learn/data/*.pyx
# What `import learn2learn` needs, and not all that it lists: the rest is large, and
# PyTorch must stay the one that the other contenders run on.
pip install 'gym>=0.26' requests scipy
pip install --no-deps .
