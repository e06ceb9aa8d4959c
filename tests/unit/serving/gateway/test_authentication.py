"""Keys of the gateway's clients."""

import pytest
from helpers.gateway import gateway_settings

from audiocnn.strict_model import SettingsError
from serving.gateway.authentication import KEYS, Keys, check_host, load_keys
from serving.gateway.problems import Problem

ALICE, BOB = "a" * 32, "b" * 32


def test_without_keys_every_client_is_admitted():
    keys = load_keys("", {})
    assert not keys
    assert keys.name_of(None) == ""


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_key_gives_the_name_of_its_client(scheme):
    keys = Keys({"alice": ALICE, "bob": BOB})
    assert keys.name_of(f"{scheme} {BOB}") == "bob"


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        (f"Basic {ALICE}", 401),
        (ALICE, 401),
        ("Bearer wrong", 403),
        (f"Bearer {ALICE[:-1]}", 403),
        (f"Bearer {ALICE}a", 403),
        ("Bearer \udcff", 403),
    ],
)
def test_missing_or_wrong_key_is_refused(authorization, status):
    with pytest.raises(Problem) as raised:
        Keys({"alice": ALICE}).name_of(authorization)
    assert raised.value.status == status
    assert ("WWW-Authenticate" in raised.value.headers) == (status == 401)


def test_keys_come_from_a_file_and_from_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# clients\n\nalice:{ALICE}\n")
    keys = load_keys(str(file), {KEYS: f"bob:{BOB}"})
    assert {keys.name_of(f"Bearer {key}") for key in (ALICE, BOB)} == {"alice", "bob"}


@pytest.mark.parametrize("entry", ["alice", f":{ALICE}", "alice:short", f"a/b:{ALICE}", f"alice:{ALICE}é"])
def test_malformed_entry_is_refused_without_showing_it(entry):
    with pytest.raises(SettingsError, match=f"{KEYS}: entry 1 is not NAME:KEY") as raised:
        load_keys("", {KEYS: entry})
    assert entry not in str(raised.value)


def test_two_keys_of_one_name_are_refused():
    with pytest.raises(SettingsError, match="entry 2 has the name alice again") as raised:
        load_keys("", {KEYS: f"alice:{ALICE} alice:{BOB}"})
    assert BOB not in str(raised.value)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", ""])
def test_names_of_this_machine_are_admitted(host: str) -> None:
    check_host(host, gateway_settings())


@pytest.mark.parametrize(
    "host", ["attacker.example", "127.0.0.1.attacker.example:8000", "localhost.", "[::1", "a b", "0"]
)
def test_other_names_are_refused_without_keys_on_loopback(host: str) -> None:
    with pytest.raises(Problem) as raised:
        check_host(host, gateway_settings())
    assert (raised.value.status, raised.value.reason) == (421, "wrong_host")
    check_host(host, gateway_settings(host="0.0.0.0"))
