#!/bin/sh
# What the images install: docker/install.sh PYTHON [INDEX]
#   PYTHON  the interpreter whose environment it goes into
#   INDEX   where another build of torch is, such as https://download.pytorch.org/whl/cpu
set -eu
cd "$(dirname "$0")/.."
"$1" -m pip install --no-cache-dir --constraint constraints.txt ${2:+--extra-index-url "$2"} '.[serve]'
