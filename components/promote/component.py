"""KFP component of the step promote."""

from kfp import dsl

from mlops.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def promote(
    registration: dsl.Input[dsl.Artifact],
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    spectrograms: dsl.Input[dsl.Dataset],
    recipe: str,
    overrides: dict,
    decision: dsl.Output[dsl.Markdown],
    comparison: dsl.Output[dsl.HTML],
) -> str:
    """Return "promote", "keep", "refuse" or "wait", for conditions on `promote(...).outputs["Output"]`."""
    import shutil
    import tempfile
    from pathlib import Path

    from components.promote import step
    from components.promote.settings import PromoteSettings
    from mlops.artifacts import DecisionFolder
    from mlops.run_parameters import resolve_parameters

    settings = resolve_parameters(recipe, overrides).block("promote", PromoteSettings)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "decision")
        made = step.promote(
            Path(registration.path),
            Path(model.path),
            Path(evaluation.path),
            Path(spectrograms.path),
            settings,
            folder,
        )
        shutil.copyfile(DecisionFolder(folder).page, decision.path)
        shutil.copyfile(DecisionFolder(folder).comparison, comparison.path)
    decision.metadata.update({"outcome": made.outcome, "challenger": made.challenger, "champion": made.champion or 0})
    return made.outcome
