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
"""The stages from rows to the page, on a cohort that takes seconds."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import pytest
import torch
from monai.bundle import ConfigParser

from benchmarks.paper import tables, theory, training, training_cohort
from benchmarks.paper.approaches import APPROACHES, BASELINES, OPERATORS, Networks
from benchmarks.paper.evaluation import Evaluator, Rows
from benchmarks.paper.parts import Parts
from benchmarks.paper.plan import Plan
from benchmarks.paper.reproduction import Reproduction, place, share_of
from benchmarks.paper.settings import REPOSITORY, Settings, full
from monai_lipcar.data import load_datalist
from monai_lipcar.errors import LipcarError
from monai_lipcar.metrics import study_metrics
from monai_lipcar.networks import DoseOperator, save_weights
from monai_lipcar.options import check_options
from monai_lipcar.physics import add_gaussian_noise
from monai_lipcar.problem import AlphaRule
from monai_lipcar.transforms import EstimateNoise

METRICS = ("ssim_head", "psnr_head", "ssim", "psnr")  # that every slice has, whether anything enhances or not


class KilledError(Exception):
    pass


def fresh(reproduction: Reproduction, settings: Settings) -> Evaluator:
    return Evaluator(settings, Networks(settings), reproduction.slices, reproduction.denoiser)


def test_a_killed_run_goes_on_with_the_same_numbers(
    reproduction: Reproduction, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = reproduction.plan.job("random", "paper", 0.033, "lip_ph2l_gentv")
    assert job is not None
    names = reproduction.plan.names("random")
    first = fresh(reproduction, settings)
    first.parts = Parts(settings.output / "uninterrupted")
    first.run(job, names)
    second = fresh(reproduction, settings)
    second.parts = Parts(settings.output / "interrupted")
    store: Callable[..., None] = Parts.store

    def store_and_die(self: Parts, key: dict[str, object], content: Rows) -> None:
        store(self, key, content)
        raise KilledError

    monkeypatch.setattr(Parts, "store", store_and_die)
    with pytest.raises(KilledError):
        second.run(job, names)
    monkeypatch.undo()
    assert len(second.missing(job, names)) == 1  # the first batch is kept
    second.run(job, names)
    assert second.rows(job, names) == first.rows(job, names)


def test_what_is_finished_is_not_computed_again(
    reproduction: Reproduction, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = fresh(reproduction, settings)
    job = reproduction.plan.job("random", "hospital", 0.0, "nn_pl2h")
    assert job is not None
    evaluator.run(job, reproduction.plan.names("random"))
    monkeypatch.setattr(Evaluator, "_compute", lambda *_: pytest.fail("computed again"))
    evaluator.run(job, reproduction.plan.names("random"))
    monkeypatch.undo()
    other = replace(settings, seed=settings.seed + 1)
    assert Evaluator(other, Networks(other), reproduction.slices, "nlm").rows(job) == {}


def test_shares_are_whole_jobs_and_all_of_them(reproduction: Reproduction) -> None:
    tasks = dict(reproduction.plan.steps())["validation, main levels"]
    shares = [share_of(tasks, share, 3) for share in range(3)]
    jobs = [{task.job for task in share} for share in shares]
    assert sum(map(len, shares)) == len(tasks)
    assert set().union(*jobs) == {task.job for task in tasks}
    assert sum(map(len, jobs)) == len({task.job for task in tasks})  # none in two shares
    assert all(jobs)
    assert share_of(tasks, 0, 1) == tasks


def test_published_rows_of_other_slices_are_noticed(
    reproduction: Reproduction, settings: Settings, tmp_path: Path
) -> None:
    job = reproduction.plan.job("random", "hospital", 0.0, "low")
    assert job is not None
    evaluator = fresh(reproduction, settings)
    evaluator.parts = Parts(tmp_path / "rows")
    evaluator.check_published()  # nothing to compare
    evaluator.run(job, reproduction.plan.names("random", count=1))
    evaluator.check_published()
    rows = {name: {**row, "psnr": row["psnr"] + 0.1} for name, row in evaluator.rows(job).items()}
    evaluator.parts.store(evaluator.key(job), rows)
    with pytest.raises(LipcarError, match="run without --go-on"):
        evaluator.check_published()


def test_lesions_are_measured_in_millimeters(reproduction: Reproduction, settings: Settings) -> None:
    slices, names = reproduction.slices["random"]["test"], reproduction.plan.names("random", count=1)
    (sample,) = slices.load(names)
    job = reproduction.plan.job("random", "hospital", 0.0, "linear_extrapolation")
    assert job is not None
    spacing = slices.spacing(names[0])
    image = nib.nifti1.load(slices_study(settings, names[0]) / "low.nii.gz")
    steps = dict(zip(image.shape, image.header.get_zooms(), strict=False))  # 64 x 64 pixels, 6 slices
    assert spacing == pytest.approx((steps[6], steps[64], steps[64]))
    lesion = torch.zeros_like(sample["head"])
    rows, columns = (int(places.float().median()) for places in torch.nonzero(sample["head"][0] > 0.5, as_tuple=True))
    lesion[0, rows - 3 : rows + 3, columns - 3 : columns + 3] = 1.0
    marked = {**sample, "lesion": lesion, "high": sample["high"] + lesion * 0.3}
    plain = reproduction.evaluator._compute(job, [marked], list(names))[names[0]]
    sized = reproduction.evaluator._compute(replace(job, lesions=True), [marked], list(names))[names[0]]
    assert plain.items() <= sized.items()
    simulated = reproduction.evaluator.images(job, [marked])[0]
    head, pre, high = sample["head"] > 0.5, sample["pre"], marked["high"]
    expected = study_metrics({"image": simulated}, high, head, pre, lesion > 0.5, spacing)
    for metric in ("cnr_lesion", "missed_lesions", "false_enhancement_mm"):
        assert sized[metric] == pytest.approx(expected["image"][metric], abs=1e-6)
    assert sized["high_cep_lesion"] == pytest.approx(expected["high"]["cep_lesion"], abs=1e-6)


def slices_study(settings: Settings, name: str) -> Path:
    return settings.output / "cohorts" / "random" / name.rpartition(":")[0]


def test_the_baselines_are_what_they_say(reproduction: Reproduction) -> None:
    names = reproduction.plan.names("random", count=1)
    (sample,) = reproduction.slices["random"]["test"].load(names)
    low = reproduction.plan.job("random", "hospital", 0.0, "low")
    linear = reproduction.plan.job("random", "hospital", 0.0, "linear_extrapolation")
    assert low is not None
    assert linear is not None
    assert reproduction.evaluator.images(low, [sample])[0].equal(sample["low"])
    expected = sample["pre"] + 5 * (sample["low"] - sample["pre"])
    assert reproduction.evaluator.images(linear, [sample])[0].allclose(expected, atol=1e-5)


def test_alpha_by_the_noise_of_each_slice(reproduction: Reproduction) -> None:
    evaluator, plan = reproduction.evaluator, reproduction.plan
    job = plan.job("random", "hospital", 0.033, "physics_tv", "auto")
    assert job is not None
    assert isinstance(job.alpha, AlphaRule)
    names = plan.names("random")
    noisy, noisier = (
        {**sample, "low": add_gaussian_noise(sample["low"], level, torch.Generator().manual_seed(0))}
        for sample, level in zip(reproduction.slices["random"]["test"].load(names), (0.01, 0.08), strict=True)
    )
    images = evaluator.images(replace(job, level=0.0), [noisy, noisier])
    alphas = [job.alpha.alpha(EstimateNoise(0)(sample["low"][None])) for sample in (noisy, noisier)]
    assert alphas[1] > 1.5 * alphas[0]  # type: ignore[operator]
    for alpha, sample, image in zip(alphas, (noisy, noisier), images, strict=True):
        assert evaluator.images(replace(job, level=0.0, alpha=alpha), [sample])[0].allclose(image, atol=1e-5)
    keys = [evaluator.key(replace(job, alpha=alpha)) for alpha in (job.alpha, replace(job.alpha, ratio=0.1), 0.1)]
    assert len({json.dumps(key) for key in keys}) == 3
    assert plan.job("random", "hospital", 0.033, "nn_pl2h", "auto") == plan.job("random", "hospital", 0.033, "nn_pl2h")


def test_alpha_by_the_noise_is_for_the_weights_that_it_was_measured_with(settings: Settings, tmp_path: Path) -> None:
    paper = replace(settings, output=tmp_path, weights="paper")
    file = training.folder_of(paper, "ph2l", "none") / "model.pt"
    save_weights(DoseOperator(in_channels=2, dropout=0.5), file, "ph2l")
    assert Networks(paper).alpha_rule("lip_ph2l_tv") is None
    assert Networks(paper).alpha_rule("physics_tv") is not None  # has no weights


def test_going_on_takes_rows_of_the_solver_before(
    reproduction: Reproduction, settings: Settings, tmp_path: Path
) -> None:
    job = reproduction.plan.job("random", "hospital", 0.0, "physics_tv")
    assert job is not None
    names = reproduction.plan.names("random")
    first, second = ({name: {"psnr": 1.0}} for name in names)
    evaluators = {go_on: fresh(reproduction, replace(settings, go_on=go_on)) for go_on in (True, False)}
    for evaluator in evaluators.values():
        evaluator.parts = Parts(tmp_path / "rows")
    key = evaluators[True].key(job)
    former = {name: value for name, value in key["solver"].items() if name != "curvature_kept"}
    evaluators[True].parts.store({**key, "solver": former}, first)
    assert evaluators[True].rows(job) == first
    assert evaluators[False].rows(job) == {}
    evaluators[True].run(job, names)
    assert evaluators[True].rows(job)[names[0]] == first[names[0]]
    computed = evaluators[False].rows(job)
    assert list(computed) == list(second)  # only what no one had
    assert computed != second


def test_the_test_set_in_the_lower_precision(reproduction: Reproduction, settings: Settings, tmp_path: Path) -> None:
    names = reproduction.plan.names("random")

    def plan_of(precision: str) -> Plan:
        evaluator = fresh(reproduction, replace(settings, test_set_precision=precision))
        evaluator.parts = Parts(tmp_path / "rows")
        return Plan(evaluator, reproduction.plan.protocols)

    exact, lower = plan_of("float32"), plan_of("bfloat16")
    job = exact.job("random", "hospital", 0.033, "lip_ph2l_tv")
    physics = exact.job("random", "hospital", 0.033, "physics_tv")
    assert job is not None
    assert physics is not None
    assert exact.on_test_set(job) == job
    assert lower.on_test_set(physics) == physics  # has no network
    half = lower.on_test_set(job)
    assert half == replace(job, precision="bfloat16")
    lower.evaluator.run(half, names)
    assert exact.on_test_set(job) == half  # all there is
    exact.evaluator.run(job, names[:1])
    cells = [cell for cell in tables.cells(exact) if cell["table"] == "precision" and cell["row"] == "lip_ph2l_tv"]
    cells = [cell for cell in cells if (cell["alpha_rule"], cell["noise_level"]) == ("schedule", 0.033)]
    greatest = {cell["metric"]: cell["ours"] for cell in cells if cell["column"] == "greatest"}
    assert all(cell["n"] == 1 and cell["precision"] == "bfloat16" for cell in cells)
    assert 0 < greatest["psnr_head"] < 0.5
    assert greatest["ssim_head"] < 0.02
    exact.evaluator.run(job, names)
    assert lower.on_test_set(job) == job  # finished in float32: better


def test_everything_from_rows_to_the_page(reproduction: Reproduction, settings: Settings) -> None:
    assert any(cell["ours"] is None for cell in tables.cells(reproduction.plan))
    reproduction.evaluate()
    reproduction.theory()
    reproduction.report()
    content = json.loads((settings.results / "paper.json").read_text(encoding="utf-8"))
    lesions = {cell["row"]: cell for cell in content["cells"] if cell["table"] == "lesions"}
    assert set(lesions) == {*APPROACHES, "high"}
    denoised = [cell for cell in content["cells"] if cell["table"] == "denoised"]
    assert {(cell["row"], cell["noise_level"], cell["protocol"]) for cell in denoised} == {
        (row, 0.033, "denoised") for row in APPROACHES
    }
    everything = [cell for cell in content["cells"] if cell["column"] == "all" and cell["metric"] in METRICS]
    assert everything
    assert all(cell["ours"] is not None for cell in everything)
    assert {cell["row"] for cell in everything} == set(APPROACHES)
    for table in ("table 1", "table 2"):
        beside = [cell for cell in content["cells"] if cell["table"] == table]
        assert {cell["row"] for cell in beside} == {*OPERATORS, *BASELINES}
        assert all(cell["ours"] is not None and cell["n"] == 2 for cell in beside)  # the whole test set
        assert all(("protocol" in cell) == (cell["row"] in BASELINES) for cell in beside)
        assert all(("alpha" in cell) == (cell["row"] == "physics_tv") for cell in beside)
    assert content["seed"] == settings.seed
    assert len(content["weights"]["sha256"]) == 4
    with (settings.results / "paper.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(content["cells"])
    assert {(line["seed"], line["torch"]) for line in lines} == {(str(settings.seed), content["versions"]["torch"])}
    assert {"operators.png", "theory.svg", "noise-random.png", "boxes-random.svg"} <= {
        file.name for file in settings.images.iterdir()
    }
    assert "## Table 1" in settings.page.read_text(encoding="utf-8")


def test_a_page_of_another_denoiser_is_not_replaced(
    reproduction: Reproduction, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "paper.json").write_text(json.dumps({"denoiser": "bm3d"}), encoding="utf-8")
    other = Reproduction(replace(settings, results=tmp_path), reproduction.splits, "nlm")
    with pytest.raises(LipcarError, match="was made with the denoiser bm3d, this run has nlm"):
        other.report()
    beside = place(replace(settings, results=tmp_path), "nlm")
    assert beside.results == settings.output / "results"
    assert {beside.page.parent, beside.images.parent} == {settings.output}
    assert beside.published == tmp_path  # rows to go on from
    assert place(replace(settings, results=tmp_path), "bm3d").results == tmp_path
    assert place(replace(settings, results=tmp_path / "none"), "nlm").results == tmp_path / "none"


def test_the_published_theory_outlives_the_folder_of_what_is_finished(
    reproduction: Reproduction, settings: Settings, tmp_path: Path
) -> None:
    (name,) = reproduction.plan.names("random", count=1)
    found = {"slice": f"random {name}", "side": settings.theory_side, "alpha": theory.ALPHA}
    found["rate"] = {"delta": [1.0] * settings.theory_steps}
    found["convergence"] = {"noise_free": [1.0] * settings.theory_steps}
    content = {
        "seed": settings.seed,
        "weights": {"sha256": {"ph2l": reproduction.networks.sha256("ph2l")}},
        "theory": found,
    }
    (tmp_path / "paper.json").write_text(json.dumps(content), encoding="utf-8")
    # nothing is finished with this cap of the solver
    other = replace(settings, results=tmp_path, theory_iterations=settings.theory_iterations + 1)

    def published(settings: Settings) -> object:
        return theory.run(fresh(reproduction, settings), name, "random", compute=False)

    assert published(other) is None
    with_published = replace(other, go_on=True)
    assert published(with_published) == found
    assert published(replace(with_published, seed=settings.seed + 1)) is None
    former = {**content, "theory": {**found, "convergence": {}}}  # before that was measured
    (tmp_path / "paper.json").write_text(json.dumps(former), encoding="utf-8")
    assert published(with_published) is None
    (tmp_path / "paper.json").write_text(json.dumps(content), encoding="utf-8")
    assert published(replace(with_published, theory_steps=settings.theory_steps + 1)) is None
    (tmp_path / "paper.json").write_text(json.dumps({**content, "theory": None}), encoding="utf-8")
    assert published(with_published) is None


def test_trainings_are_the_bundles_own(settings: Settings) -> None:
    shipped = training.trainings(replace(settings, weights="train"), "bm3d")
    assert [(entry.operator, entry.denoise) for entry in shipped] == [(name, "none") for name in training.EPOCHS]
    paper = training.trainings(replace(settings, weights="paper"), "bm3d")
    assert {(entry.operator, entry.denoise) for entry in paper} == {
        (operator, denoise) for operator in ("l2h", "pl2h", "h2l", "ph2l") for denoise in ("none", "bm3d")
    }
    assert all(entry.command[1:4] == ("-m", "monai.bundle", "run") for entry in (*shipped, *paper))
    assert len({entry.folder for entry in (*shipped, *paper)}) == 12
    for entry in (*shipped, *paper):
        arguments = entry.command[4:]
        given = dict(zip((name.removeprefix("--") for name in arguments[::2]), arguments[1::2], strict=True))
        files = ast.literal_eval(given.pop("config_file"))
        names = ["train.json"] if entry in shipped else ["train.json", "paper_train.json"]
        assert files == [str(REPOSITORY / "bundles" / entry.operator / "configs" / name) for name in names]
        config = ConfigParser.load_config_files(files)
        options = {name: value for name, value in given.items() if name != "seed"}  # a number by now
        check_options({**options, "epochs": int(given.get("epochs", 1))}, config)
        # what makes a training the paper's is in the bundle's file, which everybody can use, and nowhere else
        overlay = json.loads(Path(files[-1]).read_text(encoding="utf-8"))
        assert entry in shipped or not overlay.keys() & given.keys()
    assert {entry.denoise: entry.command[entry.command.index("--denoise") + 1] for entry in paper} == {
        name: name for name in ("none", "bm3d")
    }


def test_weights_trained_as_the_papers_have_no_skeleton(settings: Settings, tmp_path: Path) -> None:
    paper = replace(settings, output=tmp_path, weights="paper")
    for operator, channels in (("ph2l", 2), ("l2h", 1)):
        network = DoseOperator(in_channels=channels, dropout=0.5)
        save_weights(network, training.folder_of(paper, operator, "nlm") / "model.pt", operator)
        assert Networks(paper).operator(operator, "nlm").skeleton == "none"


@pytest.mark.parametrize("kind", ["forward", "end_to_end"])
def test_the_training_cohort(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [
        replace(part, studies=1, anatomy_options={"shape": (48, 48, 3)})
        for part in training_cohort.PARTS
        if part.anatomy == "random"
    ]
    monkeypatch.setattr(training_cohort, "PARTS", parts)
    datalist = training_cohort.write(tmp_path, kind)
    training_studies, validation = (load_datalist(datalist, section) for section in ("training", "validation"))
    assert [study.study_id for study in training_studies] == ["fixed-random-0001", "vary-random-0001"]
    assert [study.acquisition is None for study in training_studies] == [True, False]
    assert [study.study_id for study in validation] == ["valvary-random-0001"]
    tested_on = full(tmp_path).seed
    assert tested_on not in {part.seed for part in training_cohort.PARTS}
