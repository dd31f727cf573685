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
"""The examples of the gallery run, and those that extend the package do what a part of it would."""

from __future__ import annotations

import ast
import json
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from monai_lipcar.bundle import run_bundle
from monai_lipcar.physics import LinearDoseOperator
from monai_lipcar.problem import AdamSolver, LearnedInverseProblem, ProximalSolver

GALLERY = Path(__file__).resolve().parent.parent.parent / "examples" / "gallery"


@pytest.fixture(scope="module")
def run_example() -> Any:
    """Run an example as the gallery does and return its names; each runs once."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ran: dict[str, dict[str, Any]] = {}

    def run(name: str) -> dict[str, Any]:
        if name not in ran:
            with pytest.MonkeyPatch.context() as patch:
                patch.syspath_prepend(GALLERY)
                ran[name] = runpy.run_path(str(GALLERY / f"{name}.py"))
            ran[name]["figures"] = len(plt.get_fignums())
            plt.close("all")
        return ran[name]

    return run


def pair(generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Two slices before contrast and at a low dose of 0.2, with noise."""
    pre = torch.rand(2, 1, 20, 24, generator=generator) * 0.1 + 0.3
    high = pre.clone()
    high[..., 6:12, 8:16] += 0.4
    return pre, pre + 0.2 * (high - pre) + 0.01 * torch.randn(pre.shape, generator=generator)


class TestPrior:
    @pytest.fixture
    def prior(self, run_example: Any) -> Any:
        return run_example("plot_mr_wavelet_proximal")["SparseWavelets"]

    def test_transpose(self, prior: Any) -> None:
        generator = torch.Generator().manual_seed(0)
        image = torch.rand(2, 1, 13, 16, generator=generator, dtype=torch.float64)
        found = prior().coefficients(image)
        dual = torch.rand(found.shape, generator=generator, dtype=torch.float64)
        torch.testing.assert_close((found * dual).sum(), (image * prior().transposed(dual, image)).sum())

    @pytest.mark.parametrize("with_guess", [False, True])
    def test_proximal_point_is_the_best(self, prior: Any, with_guess: bool) -> None:
        generator = torch.Generator().manual_seed(1)
        image, guess = torch.rand(2, 2, 1, 12, 14, generator=generator)
        metric = 0.1 + torch.rand(image.shape, generator=generator)
        weight = torch.tensor([0.05, 0.2])
        rule = prior(guess if with_guess else None)
        found = rule.prox(image, weight, metric=metric, tolerance=1e-4)

        def objective(point: torch.Tensor) -> torch.Tensor:
            return 0.5 * (metric * (point - image).square()).flatten(1).sum(dim=1) + weight * rule.exact(point)

        assert bool((found.gap <= 1e-4).all())
        best = objective(found.image)
        for size in (1e-1, 1e-2):
            for _ in range(20):
                other = found.image + size * torch.randn(image.shape, generator=generator)
                assert bool((objective(other.clamp(0.0, 1.0)) > best - 2e-4).all())

    def test_both_solvers_agree(self, prior: Any) -> None:
        pre, low = pair(torch.Generator().manual_seed(2))
        problem = LearnedInverseProblem(LinearDoseOperator(0.2), low, prior(pre), 2e-3, pre=pre)
        fast = ProximalSolver(tolerance=1e-4).solve(problem, low)
        slow = AdamSolver(max_iterations=400, step_size=4e-3).solve(problem, low)
        assert set(fast.status) == {"converged"}
        torch.testing.assert_close(fast.objective[:, -1], slow.objective[:, -1], rtol=2e-2, atol=0.0)
        assert bool((fast.objective[:, -1] < slow.objective[:, -1] * 1.001).all())

    def test_example(self, run_example: Any) -> None:
        names = run_example("plot_mr_wavelet_proximal")
        assert names["figures"] == 1
        assert names["solution"].status == ("converged",)
        assert names["inferer"].record.certificate["relative_model_decrease"][0] < 0.1
        low = float((names["slice_"].low - names["slice_"].high)[names["slice_"].head].square().mean())
        assert names["best"]["wavelets"][0] < low / 2


def test_solver(run_example: Any) -> None:
    names = run_example("plot_mr_gentv_fista")
    objectives = {name: float(one.objective[0, -1]) for name, one in names["solutions"].items()}
    assert objectives["FISTA"] == pytest.approx(objectives["proximal, the default"], rel=1e-3)
    assert objectives["FISTA"] < objectives["Adam, the published one"]
    assert names["inferer"].record.solver["name"] == "fista"
    assert names["figures"] == 2


def test_solver_in_a_bundle(run_example: Any, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the example says: a bundle runs with the solver by its name alone."""
    module = ModuleType("my_solvers")
    module.Fista = run_example("plot_mr_gentv_fista")["Fista"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "my_solvers", module)
    solver = {"inferer::solver": {"_target_": "my_solvers.Fista", "max_iterations": 2}}
    assert run_bundle("physics_tv", dataset, tmp_path / "out", registration_policy="none", **solver) == 0
    (result,) = tmp_path.glob("out/*/result.json")
    assert json.loads(result.read_text())["solver"]["name"] == "fista"


def test_iodine(run_example: Any) -> None:
    names = run_example("plot_ct_gentv_proximal")
    error = {name: (image - names["high"]).square().mean().sqrt() for name, image in names["images"].items()}
    assert error["inversion"] < 0.5 * error["linear extrapolation"]
    assert error["inversion"] < 0.7 * error["a third of the iodine"]
    region = ((names["native"] == 55.0) & (names["iodine"] == 2.0))[None]
    recovered = names["enhancement_recovery"](names["result"], names["pre"], names["high"], region)
    assert 0.9 < recovered < 1.1


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in GALLERY.glob("plot_*.py")))
def test_example_runs(run_example: Any, name: str) -> None:
    """With a figure; the documentation runs them too, when it is built."""
    assert run_example(name)["figures"] >= 1


def test_names_say_what_is_inverted_with_what() -> None:
    """``problem_prior_solver``, after a number where the order matters."""
    pattern = re.compile(r"plot_(\d_)?[a-z0-9]+_(tv|gentv|adaptive|wavelet)_(proximal|fista)")
    named = {path.stem for path in GALLERY.glob("plot_*.py") if pattern.fullmatch(path.stem)}
    inverting = {path.stem for path in GALLERY.glob("plot_*.py") if "Solver" in path.read_text(encoding="utf-8")}
    assert named == inverting
    assert len(named) >= 8


@pytest.mark.parametrize("path", sorted(GALLERY.glob("plot_*.py")), ids=lambda path: path.stem)
def test_example_has_a_title(path: Path) -> None:
    """As the gallery needs it: the docstring begins with a heading."""
    first, rule = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "\n").splitlines()[:2]
    assert first
    assert rule == "=" * len(first)
