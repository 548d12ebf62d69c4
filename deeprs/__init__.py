# Copyright 2026 The DeepRS Authors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""DeepRS installed: the command ``deeprs``, and :func:`register` and :func:`segment` for Python.

The bundle, which MONAI runs by itself, lies beside this module as ``deeprs/bundle``. Importing this module costs
nothing: PyTorch and MONAI are imported by what needs them.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["BUNDLE", "LabelMap", "Registration", "Volume", "register", "segment"]
__version__ = "0.10.0"

#: the bundle: configs, scripts, weights and documents
BUNDLE = Path(__file__).parent / "bundle"
if not BUNDLE.is_dir():  # in a clone it lies beside this folder
    BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
    __path__.append(str(BUNDLE.parent))


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(".api", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
