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

"""What lies on disk: files that are written whole or not at all, folders of results and who writes to them, lists of
cases, tables, and the processes and errors of a run. Of images it knows what tells a whole one from a part, and one of
ours from another; it imports no other room."""

from .. import lazily

__getattr__, __all__ = lazily(
    __name__,
    errors=["show_cause_last"],
    literal=["from_json"],
    output_folder=["OutputFolder"],
    processes=["rank"],
    progress=["Progress"],
)
