"""The signature of a version with a key: what it refuses, and which keys can be used."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from helpers import registry as make
from helpers.mlflow import start
from helpers.signing_keys import write_keys
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from audiocnn.classifier import Classifier
from mlops import tracking
from mlops.tracking import adoption, history, manifest, signature
from mlops.tracking.signature import SIGNING_KEY, VERIFY_KEY, SigningError

ADOPTED = "it is the model of the spring release"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = make.write_data(tmp_path_factory.mktemp("data"))
    return make.write_model(tmp_path_factory.mktemp("model") / "model", data)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Sign and verify with a new pair of keys."""
    private, public = write_keys(tmp_path / "keys")
    monkeypatch.setenv(SIGNING_KEY, str(private))
    monkeypatch.setenv(VERIFY_KEY, str(public))
    return private, public


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    tracking.connect().client.create_registered_model(name)
    return name


@pytest.fixture
def version(name: str, model: Path, keys: object) -> tracking.Version:
    return make.bare_version(name, model, start().run_id)


def stored_signature(version: tracking.Version) -> Path:
    return make.stored_files(version).parents[1] / signature.FILE


def assert_refused(version: tracking.Version, message: str, folder: Path) -> None:
    with pytest.raises(tracking.DamagedVersionError) as error:
        tracking.download_model(version, folder)
    assert str(error.value).startswith(f"{version.name} version {version.number}") and message in str(error.value)
    assert "\n" not in str(error.value) and not folder.exists()


def test_registration_signs_what_others_can_verify(model: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    classifier = Classifier.load(model)
    made = tracking.register_model(
        start().run_id,
        model,
        "registered-and-signed",
        classes=classifier.classes,
        example=make.noise(1),
        weights_sha256=classifier.weights_sha256,
        tags={},
        metrics={},
    )
    folder = tracking.download_model(made, tmp_path / "downloaded")
    assert (folder / "model.json").read_bytes() == (model / "model.json").read_bytes()
    assert not (folder / signature.FILE).exists()
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    options = ["--signature", str(stored_signature(made)), "--public_key", str(keys[1])]
    subprocess.run([*command, *options], check=True, capture_output=True)


def test_keys_may_be_given_as_text(name: str, model: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    os.environ[SIGNING_KEY], os.environ[VERIFY_KEY] = (file.read_text() for file in keys)
    tracking.download_model(make.bare_version(name, model, start().run_id), tmp_path / "downloaded")


def test_files_changed_together_with_the_database_are_refused(version: tracking.Version, tmp_path: Path) -> None:
    folder = make.stored_files(version)
    (folder / "clips.csv").write_bytes((folder / "clips.csv").read_bytes().replace(b",train", b",test", 1))
    files = manifest.make(folder)
    (folder.parents[1] / manifest.FILE).write_text(files, encoding="utf-8")
    database = tracking.connect().uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(database)) as connection, connection:
        changed = connection.execute(
            "UPDATE logged_model_params SET param_value = ? WHERE model_id = ? AND param_key = ?",
            (manifest.digest(files), version.model_id, manifest.PARAMETER),
        )
        assert changed.rowcount == 1
    assert_refused(version, "model.sig is not a signature of its files by the key", tmp_path / "downloaded")
    del os.environ[VERIFY_KEY]
    tracking.download_model(version, tmp_path / "downloaded")  # the manifest alone cannot show it


def test_a_signature_by_another_key_is_refused(
    version: tracking.Version, keys: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, public = write_keys(tmp_path / "other")
    monkeypatch.setenv(VERIFY_KEY, str(public))
    assert_refused(version, "model.sig is not a signature of its files by the key", tmp_path / "downloaded")
    own_hint, other_hint = (
        json.loads(signed)["verificationMaterial"]["publicKey"]["hint"]
        for signed in (stored_signature(version).read_text(), _signed_by(private, make.stored_files(version)))
    )
    forged = stored_signature(version).read_text().replace(own_hint, other_hint)
    stored_signature(version).write_text(forged)
    assert_refused(version, "model.sig is not a signature of its files by the key", tmp_path / "downloaded")
    monkeypatch.setenv(SIGNING_KEY, str(private))
    adoption.adopt(version, because="the key was replaced")
    tracking.download_model(version, tmp_path / "downloaded")


def _signed_by(private: Path, folder: Path) -> str:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SIGNING_KEY, str(private))
        return signature.sign(folder)


@pytest.mark.parametrize("with_manifest", [True, False])
def test_an_unsigned_version_has_to_be_adopted_with_the_key(
    with_manifest: bool, name: str, model: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    del os.environ[SIGNING_KEY]
    unsigned = make.bare_version(name, model, start().run_id, with_manifest=with_manifest)
    assert_refused(unsigned, "is not signed, and" if with_manifest else "has no manifest", tmp_path / "downloaded")
    if with_manifest:
        with pytest.raises(adoption.AdoptionError, match=f"has a manifest; to sign it, set {SIGNING_KEY}"):
            adoption.adopt(unsigned, because=ADOPTED)
    os.environ[SIGNING_KEY] = str(keys[0])
    adoption.adopt(unsigned, because=ADOPTED)
    assert [entry.kind for entry in history.entries(name)] == ["adopt"]
    tracking.download_model(unsigned, tmp_path / "downloaded")


def test_a_damaged_version_is_not_signed(version: tracking.Version) -> None:
    stored_signature(version).unlink()
    (make.stored_files(version) / "clips.csv").write_text("other clips")
    with pytest.raises(tracking.DamagedVersionError, match=r"clips\.csv was changed"):
        adoption.adopt(version, because=ADOPTED)
    assert history.entries(version.name) == [] and not stored_signature(version).exists()


def test_a_malformed_signature_is_refused(version: tracking.Version, model: Path) -> None:
    signed = json.loads(stored_signature(version).read_text())
    values = st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2))

    @settings(max_examples=40, deadline=None)
    @given(st.sampled_from([*_paths(signed)]), values)
    def check(path: tuple[Any, ...], value: Any) -> None:
        changed = json.loads(json.dumps(signed))
        target = changed
        for key in path[:-1]:
            target = target[key]
        assume(target[path[-1]] != value)
        target[path[-1]] = value
        stored_signature(version).write_text(json.dumps(changed))
        not_signed = path[-1] in ("hint", "keyid", "tlogEntries")  # nor needed
        with suppress(tracking.DamagedVersionError) if not_signed else pytest.raises(tracking.DamagedVersionError):
            signature.verify_version(version, model)

    check()
    for text in ("", "[]", "[" * 100_000, "{}"):
        stored_signature(version).write_text(text)
        with pytest.raises(tracking.DamagedVersionError):
            signature.verify_version(version, model)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Yield the path of every value in a JSON document."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _paths(item, (*path, key))


UNUSABLE: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "an RSA key": lambda folder: write_keys(folder, rsa.generate_private_key(65537, 2048)),
    "an Ed25519 key": lambda folder: write_keys(folder, ed25519.Ed25519PrivateKey.generate()),
    "another curve": lambda folder: write_keys(folder, ec.generate_private_key(ec.SECP256K1())),
    "public and private exchanged": lambda folder: write_keys(folder)[::-1],
    "a missing file": lambda folder: (folder, folder),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_an_unusable_key_is_one_sentence(
    what: str, name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make.bare_version(name, model, start().run_id)
    for variable, key in zip((SIGNING_KEY, VERIFY_KEY), UNUSABLE[what](tmp_path / "keys"), strict=True):
        monkeypatch.setenv(variable, str(key))
    for variable, use in (
        (SIGNING_KEY, lambda: make.bare_version(name, model, start().run_id)),
        (VERIFY_KEY, lambda: tracking.download_model(made, tmp_path / "downloaded")),
    ):
        with pytest.raises(SigningError, match=f"^{variable}") as error:
            use()
        assert str(tmp_path) not in str(error.value) and error.value.__cause__ is None
    assert [found.number for found in tracking.registry.list_versions(name)] == [1]


def test_an_encrypted_private_key_is_one_sentence(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private, _ = write_keys(tmp_path / "keys", password=b"secret")
    monkeypatch.setenv(SIGNING_KEY, private.read_text())
    with pytest.raises(SigningError, match="has to be a private key in PEM format without a password"):
        signature.sign(model)


@pytest.mark.parametrize("variable", [SIGNING_KEY, VERIFY_KEY])
def test_a_missing_package_is_one_sentence(
    variable: str, version: tracking.Version, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(SigningError, match=rf"^{variable} is set, .*model_signing is missing; run `pip install"):
        if variable == SIGNING_KEY:
            signature.sign(model)
        else:
            tracking.download_model(version, tmp_path / "downloaded")


def test_without_keys_nothing_is_signed_or_verified(name: str, model: Path, tmp_path: Path) -> None:
    made = make.bare_version(name, model, start().run_id)
    assert not stored_signature(made).exists()
    tracking.download_model(made, tmp_path / "downloaded")
