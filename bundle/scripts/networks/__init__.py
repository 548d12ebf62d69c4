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

"""The networks that MONAI does not have, how they are applied to a volume, and their weights on disk. It never imports
the engine or data: a network maps tensors to tensors."""

from .. import lazily

__getattr__, __all__ = lazily(
    __name__,
    autoencoders=["CoarseVAE", "ReconstructingUNet"],
    baselines=["AppearanceNetwork", "FCN", "LastOutput", "Padded", "SegNet"],
    dense_bias=["DenseBiasNet", "PriorDenseBiasNet"],
    discriminator=["PairDiscriminator"],
    inferers=["MovedCopiesInferer"],
    memory=["remembering"],
    pretrained=["start_from"],
    registration=["VoxelMorph2", "RegistrationUNet"],
    sizes=["required_multiple", "single_voxel_side", "check_multiple"],
    weights=["bundle_root", "find_weights", "load_all"],
)
