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
"""What 0.6 wrote goes on working: its configs and models name modules that have moved into rooms since."""

from __future__ import annotations

import logging
from pydoc import locate

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import CONFIGS, ROOT, workflow
from monai.bundle import ConfigParser

import scripts

#: config.yaml and model.yaml of the demo, as 0.6.1 wrote them (`make demo`); of their paths, the last parts are left
WRITTEN = ROOT / "tests" / "written_by_0_6_1"
#: every ``_target_`` in the configs of 0.6.1, without ``scripts.``
TARGETS = [
    "affine_alignment.choose_aligner",
    "apply.ApplyTransform",
    "baseline_networks.AppearanceNetwork",
    "baseline_networks.FCN",
    "baseline_networks.LastOutput",
    "baseline_networks.Padded",
    "baseline_networks.SegNet",
    "brbs.TripletState",
    "cases.load_cases",
    "cases.load_images",
    "checks.DataCheck",
    "consistency.BidirectionalConsistency",
    "consistency.MixMisalignment",
    "consistency.SemanticConsistency",
    "crop_warning.CropWarningd",
    "cyclemorph.CycleState",
    "deepatlas.AnatomyState",
    "engine.JointTrainer",
    "engine.Term",
    "engine.Update",
    "errors.show_cause_last",
    "evaluation.Evaluation",
    "handlers.FieldCurves",
    "handlers.History",
    "handlers.LoadWeights",
    "handlers.PairPicture",
    "handlers.SaveWeights",
    "handlers.TrainState",
    "image_checks.CheckImaged",
    "image_checks.ImageCheck",
    "inferers.MovedCopiesInferer",
    "label_bundle.LabelBundle",
    "learned_augmentation.AppearanceSmoothness",
    "learned_augmentation.LearnedAugmentationState",
    "losses.AdversarialLoss",
    "losses.AlignmentConfidenceLoss",
    "losses.DiscriminatorLoss",
    "losses.LocalNCC",
    "losses.RegionConstraint",
    "losses.Smoothness",
    "losses.WarpedCrossEntropy",
    "mmwhs.load_mmwhs",
    "networks.PairDiscriminator",
    "networks.RegistrationUNet",
    "networks.VoxelMorph2",
    "networks.check_multiple",
    "networks.required_multiple",
    "options.is_true",
    "options.refuse_other_runs",
    "options.refuse_unread",
    "pairs.PairDataset",
    "pairs.PairSampler",
    "pairs.RingSampler",
    "perception.GuidedState",
    "perception.PerceptionState",
    "perception.RegionalAgreement",
    "perception.RegionalNCC",
    "pooling.Pool",
    "prepare.Prepare",
    "prepare_pairs.PreparePairs",
    "pretrained.start_from",
    "processes.rank",
    "record.RecordConfig",
    "refinement.Refinement",
    "registration.RegisterFiles",
    "report.Report",
    "restore.Restore",
    "rounds.AnnotationRound",
    "rounds.PossiblePairSampler",
    "rounds.check_labels",
    "rounds.datastore_cases",
    "rounds.next_round",
    "sampling.BetaScale",
    "sampling.Identity",
    "sampling.UniformScale",
    "semi_supervised.CertainConsistency",
    "semi_supervised.CrossPseudoState",
    "semi_supervised.MeanTeacherState",
    "sequence.RegisterSequence",
    "state.PairState",
    "target_grid.TargetGrid",
    "tracking.TrackedFiles",
    "transforms.ClassesToLabelsd",
    "transforms.LabelsToClassesd",
    "transforms.SafeSpacingd",
    "transforms.SaveLabelMapd",
    "validation.JointEvaluator",
    "voxel_size_warning.VoxelSizeWarningd",
    "weights.bundle_root",
    "weights.find_weights",
    "weights.load_all",
]
SIZES = {"pixdim": [9.0, 9.0, 9.0], "spatial_size": [16, 16, 16]}
CASES = {"num_labeled": 2, "num_unlabeled": None}


@pytest.fixture
def untold(monkeypatch):
    monkeypatch.setattr(scripts, "_told", False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with the model.yaml of 0.6.1 and weights of the networks that it describes."""
    folder = tmp_path_factory.mktemp("old")
    parser = ConfigParser()
    parser.read_config(str(WRITTEN / "model.yaml"))
    parser["device"] = "cpu"
    files = {"network": "model.pt", "registration": "model_registration.pt", "discriminator": "model_discriminator.pt"}
    torch.manual_seed(0)
    for name, file in files.items():
        torch.save(parser.get_parsed_content(f"{name}_def").state_dict(), folder / file)
    return folder


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if "DeepRS 0.6 names" in record.getMessage()]


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_config_of_0_6_1_names_is_found_and_is_what_the_new_name_finds(target, untold):
    module, name = target.split(".")
    found = locate(f"scripts.{target}")
    assert found is not None
    assert found is getattr(locate(f"scripts.{scripts.MOVED.get(module, module)}"), name)


def test_the_first_old_name_is_told_and_the_others_are_not(untold, caplog):
    with caplog.at_level(logging.WARNING):
        for target in ("engine.Term", "engine.Update", "state.PairState"):
            locate(f"scripts.{target}")
    (told,) = warnings_of(caplog)
    assert "`scripts.engine`, which is in `scripts.joint` now" in told


def test_a_name_that_never_was_is_not_found():
    assert locate("scripts.no_such_module.Term") is None
    with pytest.raises(AttributeError, match="no_such_module"):
        scripts.no_such_module  # noqa: B018


def test_a_model_of_0_6_1_segments_and_registers(weights, phantoms, tmp_path, untold, caplog):
    files = sorted((phantoms / "images").iterdir())
    model, options = str(WRITTEN / "model.yaml"), {"ckpt_dir": str(weights), **SIZES}
    with caplog.at_level(logging.WARNING):
        with workflow(
            ["inference.yaml", model], "infer", dataset_dir=str(files[0]), output_dir=str(tmp_path), **options
        ) as w:
            w.run()
        pair = {"moving": str(files[0]), "fixed": str(files[1])}
        with workflow(["register.yaml", model], "infer", output_dir=str(tmp_path / "pair"), **pair, **options) as w:
            w.run()
    assert len(warnings_of(caplog)) == 1
    assert nib.load(tmp_path / "phantom_000_seg.nii.gz").shape == nib.load(files[0]).shape
    assert (tmp_path / "pair" / "phantom_000_to_phantom_001_transform.h5").is_file()


def test_a_training_of_0_6_1_is_evaluated_by_its_config(weights, phantoms, tmp_path):
    configs = ["train.yaml", str(WRITTEN / "config.yaml"), "evaluate.yaml"]
    options = {"dataset_dir": str(phantoms), "output_dir": str(tmp_path), "ckpt_dir": str(weights), "max_pairs": 1}
    with workflow(configs, "infer", **options, **SIZES, **CASES) as evaluating:
        evaluating.run()
    assert (tmp_path / "metrics.json").is_file()


def test_preprocessing_is_what_0_6_1_wrote_step_by_step(phantoms):
    case = {key: str(phantoms / f"{key}s" / "phantom_000.nii.gz") for key in ("image", "label")}

    def preprocessed(*files, **entries):
        parser = ConfigParser()
        parser.read_config([str(file) for file in files])
        parser.update({"dataset_dir": str(phantoms), **SIZES, **CASES, **entries})
        return parser.get_parsed_content("preprocessing")(dict(case))

    for entries in ({}, {"intensity": "percentiles", "intensity_range": [1, 99], "crop": "foreground", "pixdim": None}):
        settings = {"intensity": "window", "intensity_range": [-300, 600], **entries}
        old, new = preprocessed(WRITTEN / "config.yaml", **settings), preprocessed(CONFIGS / "train.yaml", **settings)
        for key in ("image", "label"):
            np.testing.assert_array_equal(old[key].numpy(), new[key].numpy())
            np.testing.assert_array_equal(old[key].affine.numpy(), new[key].affine.numpy())
            assert old[key].dtype == new[key].dtype
