"""The accelerator types that a program may ask for by name, and what belongs to TPUs.

>>> import ray
>>> from ray.util.accelerators import NVIDIA_TESLA_V100
>>> @ray.remote(num_gpus=1, accelerator_type=NVIDIA_TESLA_V100)
... def train(data):
...     return "This function was run on a node with a Tesla V100 GPU"

Source: https://docs.ray.io/en/latest/ray-core/accelerator-types.html.
"""

from __future__ import annotations

import warnings

from ray.util import tpu
from ray.util.accelerators.accelerators import (
    AMD_INSTINCT_MI100,
    AMD_INSTINCT_MI210,
    AMD_INSTINCT_MI250,
    AMD_RADEON_HD_7900,
    AMD_RADEON_R9_200_HD_7900,
    APPLE_M1,
    APPLE_M1_MAX,
    APPLE_M1_PRO,
    APPLE_M1_ULTRA,
    APPLE_M2,
    APPLE_M2_MAX,
    APPLE_M2_PRO,
    APPLE_M2_ULTRA,
    APPLE_M3,
    APPLE_M3_MAX,
    APPLE_M3_PRO,
    APPLE_SILICON,
    AWS_NEURON_CORE,
    GOOGLE_TPU_V2,
    GOOGLE_TPU_V3,
    GOOGLE_TPU_V4,
    GOOGLE_TPU_V5LITEPOD,
    GOOGLE_TPU_V5P,
    GOOGLE_TPU_V6E,
    GOOGLE_TPU_V7X,
    INTEL_GAUDI,
    INTEL_MAX_1100,
    INTEL_MAX_1550,
    METAX_C500,
    METAX_C550,
    MOBILINT_ARIES,
    MOBILINT_REGULUS,
    NVIDIA_A100,
    NVIDIA_H100,
    NVIDIA_L4,
    NVIDIA_TESLA_A10G,
    NVIDIA_TESLA_K80,
    NVIDIA_TESLA_P4,
    NVIDIA_TESLA_P100,
    NVIDIA_TESLA_T4,
    NVIDIA_TESLA_V100,
    AMD_INSTINCT_MI250x,
    AMD_INSTINCT_MI300x,
)
from ray.util.annotations import RayDeprecationWarning

__all__ = [
    "AMD_INSTINCT_MI100",
    "AMD_INSTINCT_MI210",
    "AMD_INSTINCT_MI250",
    "AMD_INSTINCT_MI250x",
    "AMD_INSTINCT_MI300x",
    "AMD_RADEON_HD_7900",
    "AMD_RADEON_R9_200_HD_7900",
    "APPLE_M1",
    "APPLE_M1_MAX",
    "APPLE_M1_PRO",
    "APPLE_M1_ULTRA",
    "APPLE_M2",
    "APPLE_M2_MAX",
    "APPLE_M2_PRO",
    "APPLE_M2_ULTRA",
    "APPLE_M3",
    "APPLE_M3_MAX",
    "APPLE_M3_PRO",
    "APPLE_SILICON",
    "AWS_NEURON_CORE",
    "GOOGLE_TPU_V2",
    "GOOGLE_TPU_V3",
    "GOOGLE_TPU_V4",
    "GOOGLE_TPU_V5LITEPOD",
    "GOOGLE_TPU_V5P",
    "GOOGLE_TPU_V6E",
    "GOOGLE_TPU_V7X",
    "INTEL_GAUDI",
    "INTEL_MAX_1100",
    "INTEL_MAX_1550",
    "METAX_C500",
    "METAX_C550",
    "MOBILINT_ARIES",
    "MOBILINT_REGULUS",
    "NVIDIA_A100",
    "NVIDIA_H100",
    "NVIDIA_L4",
    "NVIDIA_TESLA_A10G",
    "NVIDIA_TESLA_K80",
    "NVIDIA_TESLA_P100",
    "NVIDIA_TESLA_P4",
    "NVIDIA_TESLA_T4",
    "NVIDIA_TESLA_V100",
    "NVIDIA_TESLA_A100",
    "tpu",
]


def __getattr__(name: str) -> str:
    if name == "NVIDIA_TESLA_A100":
        warnings.warn(
            "NVIDIA_TESLA_A100 is deprecated, use NVIDIA_A100 instead.",
            RayDeprecationWarning,
            stacklevel=2,
        )
        return NVIDIA_A100
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
