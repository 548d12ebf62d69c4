#!/usr/bin/env bash
# MONAI 1.6.1: with tracking, where output_dir is a plain path, save_execute_config becomes "/out + '/config_TIME.json'".
#
# Expected: the path of the file that was just written, to which tracking tools refer by @save_execute_config.
# Seen: the file is written, and the entry is a text of a path, a plus and a quoted name, since the two are joined as if
#     output_dir were an expression ("$..."). There is no such file.
# For users of 3D images: --output_dir /data/out, as bundles are run, tracks no config.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 || exit 2
venv/bin/pip install -qq --disable-pip-version-check monai==1.6.1 numpy==2.4.6 pytorch-ignite==0.5.4 || exit 2

venv/bin/python -W ignore - <<'PY'
import json
import sys
from pathlib import Path

import monai
from monai.bundle import ConfigWorkflow

print("MONAI", monai.__version__)
found = []
for output in (str(Path("out").resolve()), "$'" + str(Path("out").resolve()) + "'"):
    Path("train.json").write_text(json.dumps({"output_dir": output, "run": []}))
    workflow = ConfigWorkflow("train.json", logging_file=False, workflow_type="train", tracking="mlflow")
    said = workflow.parser.get_parsed_content("save_execute_config")
    found.append(Path(said).is_file())
    print(f"output_dir {output!r}: save_execute_config ends in {said[-38:]!r}, a file that is there: {found[-1]}")
sys.exit(0 if found == [False, True] else 1)
PY
