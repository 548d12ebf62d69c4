#!/usr/bin/env bash
# MONAI 1.6.1: ConfigParser writes "::" for every "#" in the values of a config, in plain text too.
#
# Expected: "#" is documented as the old separator within an id, such as @net#channels. A text that refers to nothing
#     ("runs/#3", without @ or %) is a value, and is handed on as it stands.
# Seen: "runs/#3" becomes "runs/::3", wherever it stands, also within a Python string of a $-expression.
# For users of 3D images: a folder or file with "#" in its name ("scan #2.nii.gz") is not found, and results go into a
#     folder of another name, which on Windows cannot be made.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 || exit 2
venv/bin/pip install -qq --disable-pip-version-check monai==1.6.1 numpy==2.4.6 || exit 2

venv/bin/python - <<'PY'
import copy
import sys

import monai
from monai.bundle import ConfigParser

print("MONAI", monai.__version__)
config = {
    "output_dir": "runs/#3",
    "dataset": {"_target_": "dict", "image": "scan #2.nii.gz"},
    "expression": "$'runs/#3'",
    "escaped": r"$'runs/\x233'",
}
parser = ConfigParser(copy.deepcopy(config))  # which it changes
found = {name: parser.get_parsed_content(name) for name in config}
found["dataset"] = found["dataset"]["image"]
for name, value in found.items():
    print(f"{name}: {config[name]!r} is parsed as {value!r}")
changed = ["runs/::3", "scan ::2.nii.gz", "runs/::3", "runs/#3"]
sys.exit(0 if list(found.values()) == changed else 1)
PY
