#!/usr/bin/env bash
# MONAI 1.6.1: "python -m monai.bundle run --KEY None" leaves what the config file has for KEY.
#
# Expected: run's documentation says that pairs of id and value override the content of the config; Fire reads None
#     on a command line as Python's None. So KEY is None, as it is if an args_file or a second config says null.
# Seen: the pair is dropped without a word, since None also stands for "not given" inside. --KEY '$None' does override.
# For users of 3D images: who switches something off so (a mask, a crop, a checkpoint to start from) runs with it on;
#     the log of the run does not tell.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 || exit 2
venv/bin/pip install -qq --disable-pip-version-check monai==1.6.1 numpy==2.4.6 fire==0.7.1 || exit 2

cat >config.json <<'JSON'
{"mask": "brain_mask.nii.gz", "run": ["$print('mask =', repr(@mask))"]}
JSON
cat >arguments.json <<'JSON'
{"config_file": "config.json", "mask": null}
JSON
venv/bin/pip list 2>/dev/null | grep -i '^monai '
same=0
check() {
    wanted=$1
    shift
    found=$(venv/bin/python -m monai.bundle run "$@" 2>/dev/null | grep '^mask =')
    echo "run $* -> $found"
    [ "$found" = "mask = $wanted" ] || same=1
}
check "'brain_mask.nii.gz'" --config_file config.json --mask None
check "'other.nii.gz'" --config_file config.json --mask other.nii.gz
check "None" --config_file config.json --mask '$None'
check "None" --args_file arguments.json
exit "$same"
