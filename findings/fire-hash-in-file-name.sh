#!/usr/bin/env bash
# python-fire 0.7.1 cuts a file name on the command line at "#", or makes a tuple of it.
#
# Expected: Fire documents that a word is read as a Python value if it is one, and else stays text. A name such as
#     scan#2.nii.gz is no Python value, and a comment is no part of one.
# Seen: scan#2.nii.gz becomes 'scan', a,1#2.nii.gz becomes the tuple ('a', 1), 12#b.nii the number 12; nothing is said.
#     Quotes of the shell do not help: the name needs a second pair, for Python, inside of them. (Known there as 338.)
# For users of 3D images: MONAI's bundles take their paths by Fire. With "#" in a file's name another file is opened, or
#     written over; where no such file is, the error names a path that nobody wrote.
# Exit status: 0 as stated, 1 not so any more, 2 could not be set up.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check fire==0.7.1 || exit 2

cat >program.py <<'PY'
import fire

fire.Fire(lambda path: repr(path))
PY
venv/bin/pip list 2>/dev/null | grep -i '^fire '
same=0
check() {
    found=$(venv/bin/python program.py "$1")
    echo "$1 -> $found"
    [ "$found" = "$2" ] || same=1
}
check 'scan-2.nii.gz' "'scan-2.nii.gz'"
check 'scan#2.nii.gz' "'scan'"
check 'a,1#2.nii.gz' "('a', 1)"
check '12#b.nii' "12"
check '"scan#2.nii.gz"' "'scan#2.nii.gz'"
exit "$same"
