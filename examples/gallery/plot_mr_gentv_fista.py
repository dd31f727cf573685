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
r"""
A solver of your own: FISTA
===========================

A solver is a class with a method ``solve`` that returns a :class:`~monai_lipcar.problem.Solution`. This example adds
one, in this file and nowhere else: FISTA (Beck and Teboulle, 2009), that is proximal gradient steps with momentum,

.. math::
   x_{k+1} = \mathrm{prox}^M_{\tau \alpha R + [0,1]} (z_k - \tau M^{-1} \nabla f(z_k)), \quad
   z_{k+1} = x_{k+1} + \tfrac{t_k - 1}{t_{k+1}} (x_{k+1} - x_k),

with a step :math:`\tau` that is halved until the step is safe. Problem and prior bring all that is needed: the data
fidelity, its curvature in each voxel (M), and the proximal map.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import matplotlib.pyplot as plt
import torch
from gallery_study import DOSE_FRACTION, sample_slice, show

from monai_lipcar.inferers import LIPInferer
from monai_lipcar.physics import SignalEquationOperator
from monai_lipcar.problem import (
    AdamSolver,
    GeneralizedTotalVariation,
    LearnedInverseProblem,
    ProximalSolver,
    Solution,
    frozen,
)

# %%
# The solver
# ----------
#
# The first lines of ``solve`` are what every solver needs: it may be called where gradients are switched off or under
# autocast, and must not change the operator. ``describe`` is for the record of a result, ``callback`` for a progress
# bar.


class Fista:
    """Accelerated proximal gradient descent with backtracking, a number of steps that is fixed."""

    def __init__(self, max_iterations: int = 20) -> None:
        self.max_iterations = max_iterations

    def describe(self) -> dict[str, Any]:
        return {"name": "fista", "max_iterations": self.max_iterations}

    def solve(
        self, problem: LearnedInverseProblem, initial: torch.Tensor, callback: Callable[[], None] | None = None
    ) -> Solution:
        device = problem.observed.device.type
        with torch.inference_mode(False), torch.autocast(device, enabled=False), frozen(problem.operator):
            return self._solve(problem, initial.detach().clone().float().clamp(0.0, 1.0), callback)

    def _solve(
        self, problem: LearnedInverseProblem, image: torch.Tensor, callback: Callable[[], None] | None
    ) -> Solution:
        wide = (-1, *[1] * (image.ndim - 1))
        step, momentum, dual = torch.ones(len(image), device=image.device), 1.0, None
        ahead, metric, evaluations = image, problem.curvature(image), 1
        history = [problem.objective(image)]
        for _ in range(self.max_iterations):
            with torch.enable_grad():
                ahead = ahead.detach().requires_grad_(True)
                fidelity = problem.data_fidelity(ahead)
                (gradient,) = torch.autograd.grad(fidelity.sum(), ahead)
            ahead, evaluations = ahead.detach(), evaluations + 1
            while True:
                proximal = problem.prior.prox(
                    ahead - step.reshape(wide) * gradient / metric,
                    problem.alpha * step,
                    metric=metric,
                    dual=dual,
                    tolerance=1e-4 * history[-1] * step,
                    max_iterations=100,
                )
                change, dual = proximal.image - ahead, proximal.dual
                model = (gradient * change + 0.5 * metric * change.square() / step.reshape(wide)).flatten(1).sum(dim=1)
                safe = problem.data_fidelity(proximal.image) <= (fidelity + model) * (1 + 1e-5)
                evaluations += 1
                if bool(safe.all()):
                    break
                step = torch.where(safe, step, step / 2)
            before, momentum = momentum, (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5) / 2.0
            ahead = proximal.image + (before - 1.0) / momentum * (proximal.image - image)
            image = proximal.image
            history.append(problem.objective(image).detach())
            if callback is not None:
                callback()
        return Solution(
            image=image,
            objective=torch.stack(history, dim=1),
            status=tuple("max_iterations" for _ in image),
            iterations=(self.max_iterations,) * len(image),
            network_evaluations=evaluations,
        )


# %%
# At work
# -------
#
# Three solvers on one problem: a slice of the sample study, the signal equation, the generalized total variation with
# the image before contrast as the guess.

slice_ = sample_slice()
operator = SignalEquationOperator(DOSE_FRACTION)
problem = LearnedInverseProblem(operator, slice_.low, GeneralizedTotalVariation(slice_.pre), alpha=1e-3, pre=slice_.pre)
solutions = {
    "FISTA": Fista().solve(problem, slice_.low),
    "proximal, the default": ProximalSolver().solve(problem, slice_.low),
    "Adam, the published one": AdamSolver().solve(problem, slice_.low),
}

lowest = min(float(solution.objective.min()) for solution in solutions.values())
figure, place = plt.subplots(figsize=(6, 3.6))
for name, solution in solutions.items():
    above = (solution.objective[0] / lowest - 1.0).clamp_min(1e-6)
    place.semilogy(above, label=f"{name} ({solution.network_evaluations} evaluations)", marker=".", markersize=3)
place.set(xlabel="step", ylabel="objective above the lowest seen, relative", xlim=(-1, 60), ylim=(5e-7, None))
place.legend()
figure.tight_layout()

# %%
# The images hardly differ once a solver has come to the minimum: alpha decides about the image, not the solver.

show(
    [
        {f"low dose\n{slice_.score(slice_.low)}": slice_.low}
        | {f"{name}\n{slice_.score(solution.image)}": solution.image for name, solution in solutions.items()}
    ]
)

# %%
# In the pipeline
# ---------------
#
# ``LIPInferer`` takes any solver, and so does a bundle. With the class in a module ``my_solvers`` that can be imported:
#
# .. code-block:: bash
#
#    python -m monai.bundle run --config_file bundles/physics_tv/configs/inference.json \
#        --inferer::solver "{'_target_': 'my_solvers.Fista', 'max_iterations': 10}"

volume = torch.cat([slice_.pre, slice_.low], dim=1)[..., None].repeat(1, 1, 1, 1, 2)
inferer = LIPInferer(alpha=1e-3, guess="pre", solver=Fista(max_iterations=5), progress=False)
result = inferer(volume, operator)
assert inferer.record is not None
print(result.shape, inferer.record.solver, inferer.record.network_evaluations)
