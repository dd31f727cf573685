# Copyright (c) monai_lipcar contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Is a study one of the kind that the operator was trained on?"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import TransformBackends, convert_to_numpy

from monai_lipcar.errors import StudyError
from monai_lipcar.transforms.domain_features import FEATURES, domain_features, out_of_range

__all__ = ["CheckDomainD", "CheckDomainDict", "CheckDomaind"]

logger = logging.getLogger(__name__)

POLICIES = ("flag", "refuse", "ignore")


class CheckDomaind(MapTransform):
    """Compare a study with the ranges of those that the operator was trained on.

    Measures a few features of the prepared study (:func:`~monai_lipcar.transforms.domain_features.domain_features`),
    after registration, intensity matching and scaling. The volumes stay as they are; ``d["domain"]`` gets ``"policy"``,
    ``"measures"`` (by feature), ``"ranges"`` and ``"findings"``: a sentence for each feature that is out of its range.

    What the check does not look at is whether the operator explains the study: that is the verdict on its residual
    (:func:`~monai_lipcar.metrics.judge`).

    Args:
        keys: members in the order of their doses, at most two: the last that is there is described, the first is what
            it is compared with.
        ranges: lowest and highest value by feature, None where a side is not judged; nothing is judged without ranges.
        policy: what to do about a study that is out of range: ``"flag"`` notes it, ``"refuse"`` raises, ``"ignore"``
            measures nothing.
        allow_missing_keys: skip keys that are absent instead of raising.

    Raises:
        ValueError: an unknown policy or feature, a range that is none, or not one or two keys.
        StudyError: when called with the policy ``"refuse"``: the study is out of domain; says in what.

    Example:
        >>> import torch
        >>> low = torch.zeros(1, 64, 64, 4); low[:, 12:52, 12:52] = 0.2
        >>> check = CheckDomaind(keys="low", ranges={"head_mm": (100.0, 230.0)})
        >>> check({"low": low})["domain"]["findings"]
        ['width of the head in mm: expected 100 to 230, got 45.1: another body part, or voxel sizes that are wrong']
    """

    backend = [TransformBackends.NUMPY]

    def __init__(
        self,
        keys: KeysCollection,
        ranges: Mapping[str, Sequence[float | None]],
        policy: str = "flag",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
        if not 1 <= len(self.keys) <= 2:
            raise ValueError(f"expected one key or two, got {', '.join(map(str, self.keys))}")
        self.policy = policy
        self.ranges = {name: _checked_range(name, limits) for name, limits in ranges.items()}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        present = list(self.key_iterator(d))
        if self.policy == "ignore" or not present:
            return d
        image = d[present[-1]]
        affine = convert_to_numpy(image.affine) if isinstance(image, MetaTensor) else np.eye(4)
        volumes = [convert_to_numpy(d[key], dtype=np.float32)[0] for key in present]
        measures = domain_features(volumes[-1], affine.astype(float), volumes[0] if len(volumes) == 2 else None)
        findings = out_of_range(measures, self.ranges)
        if findings and self.policy == "refuse":
            raise StudyError(
                f"out of domain: refused ({'; '.join(findings)})",
                study=d.get("study_id"),
                advice="check that these are the images that are meant; the policy 'flag' computes it all the same and "
                "marks the result",
            )
        if findings:
            logger.warning("study %s: out of domain (%s)", d.get("study_id", "-"), "; ".join(findings))
        d["domain"] = {
            "policy": self.policy,
            "measures": {name: float(f"{value:.4g}") for name, value in measures.items()},
            "ranges": {name: list(limits) for name, limits in self.ranges.items()},
            "findings": findings,
        }
        return d


def _checked_range(name: str, limits: Sequence[float | None]) -> tuple[float | None, float | None]:
    if name not in FEATURES:
        raise ValueError(f"the feature {name!r} is not known; there are {', '.join(FEATURES)}")
    low, high = limits if len(limits) == 2 else (None, None)
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        raise ValueError(f"{name}: expected the lowest and the highest value, one of them may be None, got {limits}")
    return low, high


CheckDomainD = CheckDomainDict = CheckDomaind
