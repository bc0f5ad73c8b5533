"""Settings: all of them shown in .env.example, secrets kept out of sight."""

import base64
import os
import re
import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from app.settings import SecretKeysError, Settings, default_data_dir, encryption_keys

EXAMPLE = Path(__file__).parents[2] / ".env.example"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours, and no .env in the working directory."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("NAVCRM_")]:
        monkeypatch.delenv(name)


def test_the_example_shows_every_setting_and_no_other() -> None:
    shown = re.findall(r"^(?:# )?NAVCRM_([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(shown) == sorted(name.upper() for name in Settings.model_fields)


def test_the_example_says_what_holds_without_it() -> None:
    assert Settings(_env_file=EXAMPLE) == Settings(_env_file=None)


def test_every_example_that_is_commented_out_is_a_value_that_is_accepted(tmp_path: Path) -> None:
    every_line = re.sub(r"^# (?=NAVCRM_)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    (tmp_path / "every").write_text(every_line)
    settings = Settings(_env_file=tmp_path / "every")
    assert settings.allowed_outbound_hosts == ("*.crm4.dynamics.com", "login.microsoftonline.com")
    assert settings.data_dir.is_absolute()


def test_no_secret_is_printed() -> None:
    settings = Settings(
        _env_file=None,
        database_url="postgresql://u:hidden@h/d",
        secret_keys="hidden",
        bootstrap_api_key="hidden",
    )
    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings.model_dump())


def test_the_first_start_makes_a_key_that_only_its_account_may_read(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data")
    keys = encryption_keys(settings)
    assert encryption_keys(settings) == keys
    assert [entry.name for entry in settings.data_dir.iterdir()] == ["secret-keys"]
    assert (settings.data_dir / "secret-keys").stat().st_mode & 0o777 == 0o600


def test_services_that_start_at_once_share_the_key_that_one_of_them_made(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path / "data")
    found: list[tuple[str, ...]] = []
    threads = [threading.Thread(target=lambda: found.append(encryption_keys(settings))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_named_database_needs_named_keys() -> None:
    with pytest.raises(SecretKeysError, match="NAVCRM_SECRET_KEYS"):
        encryption_keys(Settings(_env_file=None, database_url="postgresql://h/d"))


def test_keys_are_read_in_order() -> None:
    new, old = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    assert encryption_keys(Settings(_env_file=None, secret_keys=f"{new}, {old}")) == (new, old)


def test_a_key_that_is_none_is_named_by_its_place_and_not_shown() -> None:
    keys = f"{Fernet.generate_key().decode()},not-a-key"
    with pytest.raises(SecretKeysError, match="Key 2") as refusal:
        encryption_keys(Settings(_env_file=None, secret_keys=keys))
    assert "not-a-key" not in str(refusal.value)


def test_without_a_home_there_still_is_a_place_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_data_dir().is_absolute()


def test_a_key_that_somebody_typed_is_refused() -> None:
    typed = base64.urlsafe_b64encode(b"0123456789" * 3 + b"01").decode()
    for weak in (typed, base64.urlsafe_b64encode(bytes(32)).decode()):
        with pytest.raises(SecretKeysError, match="Key 1 in NAVCRM_SECRET_KEYS is an example") as refusal:
            encryption_keys(Settings(_env_file=None, secret_keys=weak))
        assert weak not in str(refusal.value)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path)
    encryption_keys(settings)
    (tmp_path / "secret-keys").chmod(0o640)
    with pytest.raises(SecretKeysError, match="chmod 600"):
        encryption_keys(settings)
