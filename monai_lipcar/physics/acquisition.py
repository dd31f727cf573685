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
"""What is known of how an examination was acquired: dose, sequence and contrast agent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from monai_lipcar.errors import ConfigurationError
from monai_lipcar.physics.agent import HIGH_RELAXIVITY, ContrastAgent
from monai_lipcar.physics.dose import DoseResponse
from monai_lipcar.physics.signal_model import SignalModel
from monai_lipcar.physics.spin_echo import SpinEcho
from monai_lipcar.physics.spoiled_gradient_echo import SpoiledGradientEcho

__all__ = ["Acquisition"]

_OPTIONS = {"r1": "relaxivity_r1", "r2": "relaxivity_r2"}
"""What the bundles call what is called otherwise here."""


@dataclass(frozen=True)
class Acquisition:
    """Dose fraction, sequence and contrast agent of an examination.

    How much of the full dose's enhancement a reduced dose leaves depends on all of them
    (:class:`~monai_lipcar.physics.DoseResponse`). The defaults are the paper's examinations (arXiv 2407.10559).

    Args:
        dose_fraction: reduced dose over full dose, in (0, 1].
        repetition_time_ms: TR in ms.
        echo_time_ms: TE in ms.
        flip_angle_deg: of a spoiled gradient echo; None for a spin echo.
        r1: longitudinal relaxivity of the agent in 1/(mM s).
        r2: transverse relaxivity in 1/(mM s).

    Raises:
        ConfigurationError: a value that is impossible.

    Example:
        >>> acquisition = Acquisition(dose_fraction=0.1, repetition_time_ms=8, echo_time_ms=3, flip_angle_deg=15)
        >>> type(acquisition.signal_model).__name__
        'SpoiledGradientEcho'
    """

    dose_fraction: float = 0.2
    repetition_time_ms: float = SpinEcho.repetition_time_ms
    echo_time_ms: float = SpinEcho.echo_time_ms
    flip_angle_deg: float | None = None
    r1: float = HIGH_RELAXIVITY.r1
    r2: float = HIGH_RELAXIVITY.r2

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is None and name == "flip_angle_deg":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ConfigurationError(f"{name}: expected a number, got {value!r}")
        if not 0 < self.dose_fraction <= 1:
            raise ConfigurationError(
                f"dose_fraction: expected low dose over high dose, in (0, 1], got {self.dose_fraction}"
            )
        _ = self.signal_model, self.agent  # refuse impossible values here, not when they are first used

    @classmethod
    def of(
        cls, dose_fraction: float, signal_model: SpinEcho | SpoiledGradientEcho, agent: ContrastAgent
    ) -> Acquisition:
        """The acquisition with these parts."""
        return cls(
            dose_fraction,
            signal_model.repetition_time_ms,
            signal_model.echo_time_ms,
            getattr(signal_model, "flip_angle_deg", None),
            agent.r1,
            agent.r2,
        )

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Acquisition:
        """From the keys of a JSON object; others are ignored, missing ones are the paper's.

        Raises:
            ConfigurationError: no dose fraction, or a value that is impossible.
        """
        if "dose_fraction" not in content:
            raise ConfigurationError(f"expected 'dose_fraction', got the keys {sorted(content)}")
        return cls(**{field.name: content[field.name] for field in fields(cls) if field.name in content})

    @classmethod
    def of_options(cls, options: Mapping[str, Any]) -> Acquisition:
        """From all options of a bundle, or its config; the reverse of :meth:`options`."""
        return cls(**{field.name: options[_OPTIONS.get(field.name, field.name)] for field in fields(cls)})

    @property
    def signal_model(self) -> SignalModel:
        """The sequence."""
        if self.flip_angle_deg is None:
            return SpinEcho(self.repetition_time_ms, self.echo_time_ms)
        return SpoiledGradientEcho(self.repetition_time_ms, self.echo_time_ms, self.flip_angle_deg)

    @property
    def agent(self) -> ContrastAgent:
        """The contrast agent."""
        return ContrastAgent("of the examination", self.r1, self.r2)

    def options(self) -> dict[str, float | None]:
        """The same as options of the bundles."""
        return {_OPTIONS.get(name, name): value for name, value in asdict(self).items()}

    def response(self) -> DoseResponse:
        """What the reduced dose leaves of the enhancement of the reference tissue, as learned operators start from."""
        return DoseResponse(self.signal_model, self.agent, dose_fraction=self.dose_fraction)

    def differences(self, other: Acquisition) -> list[str]:
        """Options of the bundles that are not the same, to 1 %."""
        own, others = self.options(), other.options()
        return [name for name in own if not _alike(own[name], others[name])]


def _alike(one: float | None, other: float | None) -> bool:
    return one is other if one is None or other is None else math.isclose(one, other, rel_tol=0.01)
