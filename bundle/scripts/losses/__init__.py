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

"""The terms of the papers as functions of tensors: local NCC, MIND-SSC, smoothness, Equation 1 (`confidence`), Equation
2 (`region`), the adversarial ones, cross-entropy, consistency, reconstruction. It never imports networks or states: a
loss is given what it compares."""

from .. import lazily

__getattr__, __all__ = lazily(
    __name__,
    adversarial=["AdversarialLoss", "DiscriminatorLoss"],
    confidence=["AlignmentConfidenceLoss"],
    consistency=["BidirectionalConsistency", "MixMisalignment", "SemanticConsistency"],
    cross_entropy=["WarpedCrossEntropy"],
    local_ncc=["LocalNCC"],
    reconstruction=["AttentionReconstruction", "StandardNormalDivergence"],
    region=["RegionConstraint"],
    self_similarity=["MINDSSC"],
    smoothness=["Smoothness"],
)
