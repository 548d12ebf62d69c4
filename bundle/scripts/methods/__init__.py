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

"""States, losses and samplings that other publications need beside those of DeepRS: a recipe names them. It never
imports what runs a training: a method is a config."""

from .. import lazily

__getattr__, __all__ = lazily(
    __name__,
    autoencoding=["DenoisingState", "ReconstructionState"],
    brbs=["TripletState"],
    cyclemorph=["CycleState"],
    deepatlas=["AnatomyState"],
    label_transfer=["LabelTransferState"],
    learned_augmentation=["AppearanceSmoothness", "LearnedAugmentationState"],
    matched=["MatchedState"],
    perception=["GuidedState", "PerceptionState", "RegionalAgreement", "RegionalNCC"],
    variational=["DeformationSamplingState"],
    voting=["Confidenced", "Reviewed", "VotedSegmentation", "voted", "with_votes"],
    semi_supervised=["CertainConsistency", "CrossPseudoState", "MeanTeacherState"],
)
