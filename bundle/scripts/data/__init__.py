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

"""Cases and pairs: which there are, how they are read, checked and preprocessed, once for all commands. It never
imports losses, networks or anything that trains."""

from .. import lazily

__getattr__, __all__ = lazily(
    __name__,
    cases=["load_cases", "load_images"],
    checks=["DataCheck"],
    crop_warning=["CropWarningd"],
    image_checks=["CheckImaged", "CheckPreprocessedd", "ImageCheck"],
    label_map_files=["SaveLabelMapd"],
    label_map_folder=["LabelMapFolder"],
    mmwhs=["load_mmwhs"],
    pairs=["PairDataset"],
    preprocessing=["Preprocessing"],
    readers=["LoadVolumed"],
    review_table=["ModelReview"],
    samplers=["PairSampler", "RingSampler"],
    transforms=["ClassesToLabelsd", "LabelsToClassesd", "SafeSpacingd"],
    voxel_size_warning=["VoxelSizeWarningd"],
)
