"""The options of the recipe. Light to import: the command line and the page read them before anything runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from paperworks import runs
from paperworks.errors import InputError

BUNDLED = ("phantom", "petct-phantom")


class Config(runs.Config):
    """Options of ``paperworks run petct-slices``."""

    cases: Annotated[str, runs.File(BUNDLED)] = Field(
        "phantom",
        description="scans: a CSV table (columns pet, ct, mask, patient_id, case_id, center, disease), a folder with a "
        "folder per scan (NIfTI, or DICOM with RTSTRUCT or SEG), nnU-Net's layout; phantom simulates scans, "
        "petct-phantom is the same on disk (paperworks data get petct-phantom)",
    )
    pet: Annotated[str | None, runs.File()] = Field(
        None, description="one scan to mark, with model: a NIfTI file in SUV, or a DICOM folder with a PET series"
    )
    ct: Annotated[str | None, runs.File()] = Field(
        None, description="the CT of the scan in pet: a NIfTI file in HU, or a DICOM folder"
    )
    model: Annotated[str | None, runs.File()] = Field(
        None, description="folder of a trained classifier, which marks the scans; nothing is trained then"
    )
    backbone: Annotated[str | None, runs.File()] = Field(
        None, description="pretrained ResNet-18: a folder of transformers, or a file with torchvision's weights"
    )
    input: Literal["pet", "ct", "petct"] = Field("pet", description="what the network sees")
    regime: Literal["cag", "caw"] = Field("cag", description="center-agnostic, or aware of the center in training")
    caw: Literal["balanced", "one-hot", "batchnorm"] = Field(
        "balanced",
        description="how it is aware: batches balanced over center and label, the center beside the features, or a "
        "BatchNorm per center",
    )
    channels: str | None = Field(
        None, description="channels of the input, such as pet,ct,pet; default pet,pet,pet, or pet,ct for both"
    )
    split: Literal["patient", "center", "slice"] = Field(
        "patient", description="what is kept apart: patients, a center (test_center), or only slices, which leaks"
    )
    allow_leakage: bool = Field(False, description="permit split slice, to measure how much it overestimates")
    test_center: str | None = Field(None, description="the center that tests, with split center")
    test_size: float = Field(0.2, gt=0, lt=1, description="share of the patients (or slices) that test")
    validation_size: float = Field(
        0.2, gt=0, lt=1, description="share of the training patients that choose epoch and threshold"
    )
    image_size: int | None = Field(
        None, ge=16, le=1024, description="pixels of the slices along each side; default 224, and 64 for the phantom"
    )
    network: Literal["auto", "resnet18", "small"] = Field(
        "auto", description="ResNet-18, or a small one of 0.1 million parameters; auto is small for the phantom only"
    )
    pet_window: tuple[float, float] | None = Field(
        None, description="SUV that are mapped to 0 and 1; default 0,50 with a backbone and 0,15 without"
    )
    ct_window: tuple[float, float] = Field((-500.0, 500.0), description="HU that are mapped to 0 and 1")
    pet_scale: Literal["window", "patient"] = Field(
        "window", description="SUV in the window, or standardised with the patient's mean and deviation"
    )
    normalise: bool = Field(False, description="subtract ImageNet's mean and divide by its deviation")
    spacing: tuple[float, float, float] | None = Field(
        None, description="mm that scans are brought to along x, y, z; 0 keeps the PET's own; default all its own"
    )
    augment: bool = Field(False, description="flip, turn, scale and move the training slices")
    loss: Literal["focal", "bce"] = Field("focal", description="focal loss, or cross-entropy")
    gamma: float = Field(2.0, ge=0, le=10, description="of the focal loss: how far easy slices are left out")
    alpha: float = Field(0.25, gt=0, lt=1, description="of the focal loss: weight of positive slices")
    pos_weight: float = Field(1.0, gt=0, le=1000, description="of the cross-entropy: weight of positive slices")
    epochs: int = Field(20, ge=1, le=1000, description="passes over the training slices")
    batch_size: int = Field(64, ge=2, le=4096, description="slices in a step")
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="of AdamW; default 0.0001 with a backbone and 0.001 without"
    )
    weight_decay: float = Field(1e-5, ge=0, le=1, description="of AdamW")
    threshold: str = Field(
        "0.5",
        description="a number, or a rule on the validation slices: youden, f1, sensitivity-0.95, sensitivity-0.99",
    )
    smooth: bool = Field(False, description="take the median of the probabilities of three neighbouring slices")
    cam: Literal["grad-cam", "grad-cam++", "layer-cam", "eigen-cam", "score-cam"] = Field(
        "grad-cam", description="class-activation maps of the montage"
    )
    n_boot: int = Field(1000, ge=0, le=100_000, description="resamples of the patients for the intervals; 0 is none")
    structures: str | None = Field(
        None, description="regular expression for the structures of an RTSTRUCT or SEG that are lesions; default all"
    )
    resample_masks: bool = Field(
        False, description="take over NIfTI masks from a grid that is neither the PET's nor the CT's"
    )
    phantom_cases: int = Field(24, ge=6, le=1000, description="scans that are simulated, with cases phantom")
    onnx: bool = Field(False, description="write the network as ONNX, too")
    keep_ids: bool = Field(False, description="write the ids of patients and scans as they are, in place of pseudonyms")
    key_file: Annotated[str | None, runs.File()] = Field(
        None, description="file with a secret that goes into the pseudonyms, so that nobody can try out ids"
    )

    @model_validator(mode="after")
    def _together(self) -> Config:
        if self.split == "slice" and not self.allow_leakage:
            found = "slice, which puts slices of one patient on both sides"
            raise InputError("split", found, "patient (or --allow-leakage, to measure how much it overestimates)")
        if (self.split == "center") != (self.test_center is not None):
            expected = "the name of the center that tests, with split center and only there"
            raise InputError("test_center", self.test_center or "none", expected)
        if self.pet is not None and self.model is None:
            raise InputError("model", "none, with pet", "the folder of a trained classifier, which marks the scan")
        if self.ct is not None and self.pet is None:
            raise InputError("pet", "none, with ct", "the PET of the scan")
        if self.pet_window is not None and not self.pet_window[0] < self.pet_window[1]:
            raise InputError("pet_window", self.pet_window, "two numbers, the lower end first")
        if not self.ct_window[0] < self.ct_window[1]:
            raise InputError("ct_window", self.ct_window, "two numbers, the lower end first")
        if self.spacing is not None and min(self.spacing) < 0:
            raise InputError("spacing", self.spacing, "mm of 0 or more")
        return self

    @property
    def simulated(self) -> bool:
        """Whether the scans are the bundled ones."""
        return self.cases in BUNDLED

    @property
    def size(self) -> int:
        """Pixels of the slices along each side."""
        return self.image_size or (64 if self.simulated else 224)

    @property
    def architecture(self) -> str:
        """``resnet18`` or ``small``."""
        if self.network != "auto":
            return self.network
        return "small" if self.simulated and self.backbone is None else "resnet18"

    @property
    def grid(self) -> tuple[float | None, float | None, float | None] | None:
        """The spacing in mm, None for what stays."""
        if self.spacing is None:
            return None
        x, y, z = (value or None for value in self.spacing)
        return x, y, z
