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

"""What goes on around the engine: handlers, validation, the record that a run leaves, options and their refusal. It
never imports a command that uses what was trained."""

from .. import lazily

__getattr__, __all__ = lazily(
    __name__,
    field_curves=["FieldCurves"],
    history=["History"],
    model_record=["read_model"],
    options=["check_values", "is_true", "refuse_other_runs", "refuse_unread"],
    own_folders=["OwnFolders"],
    pair_handler=["PairPicture"],
    rounds=["VoteRounds"],
    record=["RecordConfig", "settings_of_run"],
    save_weights=["LoadWeights", "SaveWeights"],
    tracking=["TrackedFiles"],
    train_state=["TrainState", "check_resuming"],
    validation=["JointEvaluator"],
    write_review=["WriteReview"],
)
