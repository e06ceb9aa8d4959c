"""The steps promote and deploy with a key to verify signatures with: what is not signed by it goes nowhere."""

from pathlib import Path

import pytest
from helpers import registry as make
from helpers.signing_keys import write_keys
from helpers.torchserve import deploy_settings

from components.deploy.step import deploy
from components.promote.step import promote
from mlops import tracking
from mlops.tracking import champion
from mlops.tracking.signature import SIGNING_KEY, VERIFY_KEY


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> make.Data:
    return make.write_data(tmp_path_factory.mktemp("data"))


def judge(made: make.Candidate, data: make.Data, output: Path) -> str:
    return promote(made.registration, made.model, made.evaluation, data.spectrograms, make.POLICY, output).outcome


def test_only_signed_versions_are_promoted_compared_and_deployed(
    data: make.Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, (private, public) = "verified", write_keys(tmp_path / "keys")
    _, other = write_keys(tmp_path / "other")
    monkeypatch.setenv(VERIFY_KEY, str(public))
    unsigned = make.candidate(tmp_path / "a", name, data)
    with pytest.raises(tracking.DamagedVersionError, match=r"^verified version 1 is not signed, and AUDIOCNN_VERIFY"):
        judge(unsigned, data, tmp_path / "refused")
    assert tracking.version_by_alias(name, "champion") is None and not (tmp_path / "refused").exists()
    assert "decision" not in tracking.get_version(name, 1).tags

    monkeypatch.setenv(SIGNING_KEY, str(private))
    signed = make.candidate(tmp_path / "bb", name, data, answer=1)
    assert judge(signed, data, tmp_path / "promoted") == "promote"

    monkeypatch.setenv(VERIFY_KEY, str(other))
    third = make.candidate(tmp_path / "ccc", name, data, correct=40, answer=2)
    assert judge(third, data, tmp_path / "waits") == "wait"
    assert "verified version 2: model.sig is not a signature of its files" in (
        (tmp_path / "waits" / "decision.md").read_text()
    )
    with pytest.raises(tracking.DamagedVersionError, match=r"version 2: model\.sig is not a signature"):
        deploy(name, None, deploy_settings(tmp_path / "state"), tmp_path / "deployment")
    assert not (tmp_path / "deployment").exists()
    with pytest.raises(champion.ApprovalError, match="no previous champion"):
        champion.rollback_target(name)
