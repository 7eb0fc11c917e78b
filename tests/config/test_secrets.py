from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.problem import SettingsError
from config.secrets import (
    FILE_NAME,
    fresh_api_key,
    fresh_publishable_key,
    fresh_secret,
    load_secrets,
    rotate,
)
from config.settings import Settings

SECRET = (SecretStr("s" * 32), SecretStr("t" * 32))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "voice"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_first_start_makes_and_keeps_them(data_dir: Path) -> None:
    first, second = load_secrets(Settings(data_dir=data_dir)), load_secrets(Settings(data_dir=data_dir))
    assert (first.created, second.created) == (True, False)
    assert (first.signing, first.api_keys) == (second.signing, second.api_keys)
    assert len(first.signing[0]) >= 32
    assert first.api_keys[0].startswith("pk_")
    assert not first.api_keys[0].startswith("pk_publishable_")
    assert first.file == data_dir / FILE_NAME
    assert mode(data_dir) == 0o700
    assert mode(data_dir / FILE_NAME) == 0o600
    assert [file.name for file in data_dir.iterdir()] == [FILE_NAME]


def test_two_servers_have_different_ones(tmp_path: Path) -> None:
    one, other = (load_secrets(Settings(data_dir=tmp_path / name)) for name in "ab")
    assert one.signing != other.signing
    assert one.api_keys != other.api_keys


def test_what_the_operator_gives_is_taken(data_dir: Path) -> None:
    given = load_secrets(
        Settings(data_dir=data_dir, secret=SECRET, api_keys=(SecretStr("key-one-1"), SecretStr("acme:key-two-2")))
    )
    assert (given.signing, given.api_keys) == (("s" * 32, "t" * 32), ("key-one-1", "acme:key-two-2"))
    assert (given.created, given.file) == (False, None)
    assert not data_dir.exists()


def test_the_half_that_the_operator_leaves_is_made(data_dir: Path) -> None:
    keyed = load_secrets(Settings(data_dir=data_dir, api_keys=(SecretStr("key-one-1"),)))
    assert keyed.api_keys == ("key-one-1",)
    assert not keyed.created  # no key was made that anyone has to be told
    signed = load_secrets(Settings(data_dir=data_dir, secret=SECRET))
    assert signed.signing == ("s" * 32, "t" * 32)
    assert signed.api_keys[0].startswith("pk_")


def test_they_do_not_show_in_a_log(data_dir: Path) -> None:
    secrets = load_secrets(Settings(data_dir=data_dir))
    assert secrets.signing[0] not in repr(secrets)
    assert secrets.api_keys[0] not in repr(secrets)


def test_threads_that_race_agree(data_dir: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: load_secrets(Settings(data_dir=data_dir)), range(64)))
    assert len({(secrets.signing, secrets.api_keys) for secrets in found}) == 1
    assert [secrets.created for secrets in found].count(True) == 1


def test_processes_that_race_agree(data_dir: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from config.secrets import load_secrets;"
        "from config.settings import Settings; sys.stdin.readline();"
        "s = load_secrets(Settings(data_dir=Path(sys.argv[1]))); print(s.signing[0], s.api_keys[0], s.created)"
    )
    command = [sys.executable, "-c", script, str(data_dir)]
    racers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        )
        for _ in range(4)
    ]
    for racer in racers:  # all wait at the line until now
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert len({tuple(answer[:2]) for answer in answers}) == 1
    assert [answer[2] for answer in answers].count("True") == 1


def test_a_rotation_puts_a_fresh_value_in_front_of_the_last_one(data_dir: Path) -> None:
    settings = Settings(data_dir=data_dir)
    first = load_secrets(settings)
    fresh = rotate(data_dir, "secret")
    second = load_secrets(settings)
    assert second.signing == (fresh, first.signing[0])
    assert (second.api_keys, second.created) == (first.api_keys, False)
    key = rotate(data_dir, "api_key")
    assert load_secrets(settings).api_keys == (key, first.api_keys[0])
    last = rotate(data_dir, "secret")
    assert load_secrets(settings).signing == (last, fresh)  # the first one is gone
    assert len({first.signing[0], fresh, last}) == 3
    assert mode(data_dir / FILE_NAME) == 0o600
    assert [file.name for file in data_dir.iterdir()] == [FILE_NAME]


def test_rotations_that_race_lose_nothing(data_dir: Path) -> None:
    load_secrets(Settings(data_dir=data_dir))
    with ThreadPoolExecutor(8) as pool:
        fresh = list(pool.map(lambda _: rotate(data_dir, "secret"), range(16)))
    assert set(load_secrets(Settings(data_dir=data_dir)).signing) <= set(fresh)


def test_there_is_nothing_to_rotate_before_the_first_start(data_dir: Path) -> None:
    with pytest.raises(SettingsError, match="is not there yet"):
        rotate(data_dir, "secret")
    assert not (data_dir / FILE_NAME).exists()


def test_a_file_with_single_values_is_read(data_dir: Path) -> None:
    data_dir.mkdir(parents=True)
    (data_dir / FILE_NAME).write_text(json.dumps({"secret": "s" * 40, "api_key": "pk_12345678"}))
    found = load_secrets(Settings(data_dir=data_dir))
    assert (found.signing, found.api_keys) == (("s" * 40,), ("pk_12345678",))


def test_fresh_keys_are_what_the_settings_expect() -> None:
    settings = Settings(
        api_keys=(SecretStr(fresh_api_key()),),
        publishable_keys=(SecretStr(f"acme:{fresh_publishable_key()}"),),
        secret=(SecretStr(fresh_secret()),),
    )
    assert settings.publishable_keys[0].get_secret_value().startswith("acme:pk_publishable_")
    assert fresh_api_key() != fresh_api_key()


def test_a_file_that_others_can_read_is_closed(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = load_secrets(Settings(data_dir=data_dir))
    (data_dir / FILE_NAME).chmod(0o644)
    with caplog.at_level(logging.WARNING):
        again = load_secrets(Settings(data_dir=data_dir))
    assert again.signing == made.signing
    assert mode(data_dir / FILE_NAME) == 0o600
    assert "could be read by other users" in caplog.text
    assert made.signing[0] not in caplog.text


def test_a_folder_that_others_can_write_is_closed(data_dir: Path) -> None:
    data_dir.mkdir(parents=True)
    data_dir.chmod(0o777)
    load_secrets(Settings(data_dir=data_dir))
    assert mode(data_dir) == 0o700


def test_a_folder_that_all_share_is_refused(data_dir: Path) -> None:
    data_dir.mkdir(parents=True)
    data_dir.chmod(0o1777)  # as /tmp is
    with pytest.raises(SettingsError, match="other users may write there"):
        load_secrets(Settings(data_dir=data_dir))
    assert mode(data_dir) == 0o1777


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        json.dumps({"secret": "short", "api_key": "pk_12345678"}),
        json.dumps({"secret": "s" * 40}),
        json.dumps({"secret": "s" * 40, "api_key": ""}),
        json.dumps({"secret": 5, "api_key": 5}),
        json.dumps({"secret": [], "api_key": ["pk_12345678"]}),
        json.dumps({"secret": ["s" * 40, "short"], "api_key": ["pk_12345678"]}),
        json.dumps({"secret": {"s" * 40: 1}, "api_key": ["pk_12345678"]}),
        "[" * 4000,
        "\xff" * 5000,
    ],
)
def test_a_damaged_file_is_told_and_kept(content: str, data_dir: Path) -> None:
    load_secrets(Settings(data_dir=data_dir))
    (data_dir / FILE_NAME).write_text(content)
    with pytest.raises(SettingsError, match="is damaged; remove it") as caught:
        load_secrets(Settings(data_dir=data_dir))
    assert str(data_dir / FILE_NAME) in str(caught.value)
    assert (data_dir / FILE_NAME).read_text() == content


def test_a_link_is_not_followed(data_dir: Path, tmp_path: Path) -> None:
    data_dir.mkdir(parents=True, mode=0o700)
    (data_dir / FILE_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match="cannot keep the secrets there"):
        load_secrets(Settings(data_dir=data_dir))
    assert not (tmp_path / "elsewhere").exists()


def test_a_pipe_does_not_hang_the_start(data_dir: Path) -> None:
    data_dir.mkdir(parents=True, mode=0o700)
    os.mkfifo(data_dir / FILE_NAME, 0o600)
    with pytest.raises(SettingsError, match="expected a regular file"):
        load_secrets(Settings(data_dir=data_dir))


def test_a_file_in_the_way_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot keep the secrets there"):
        load_secrets(Settings(data_dir=tmp_path / "file" / "voice"))
    with pytest.raises(SettingsError, match="cannot keep the secrets there"):
        load_secrets(Settings(data_dir=tmp_path / "file"))


def keyed(folder: Path, text: str | bytes, **more: object) -> Settings:
    file = folder / "keys"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Settings.model_validate({"data_dir": folder / "data", "api_keys_file": file, **more})


def test_a_file_of_keys_is_added_to_those_of_the_settings(tmp_path: Path) -> None:
    text = "# staging\nacme:pk_of_acme_1\n\n  globex:sk_of_globex  \npk_of_default\nacme:pk_publishable_of_acme_1\n"
    more = {"api_keys": ("pk_in_settings",), "publishable_keys": ("pk_publishable_of_default",)}
    found = load_secrets(keyed(tmp_path, text, **more))
    assert found.api_keys == ("pk_in_settings", "acme:pk_of_acme_1", "globex:sk_of_globex", "pk_of_default")
    assert found.publishable_keys == ("pk_publishable_of_default", "acme:pk_publishable_of_acme_1")
    assert not found.created
    assert load_secrets(keyed(tmp_path, "acme:pk_alone_in_file")).api_keys == ("acme:pk_alone_in_file",)


def test_an_empty_file_of_keys_leaves_it_to_the_server(tmp_path: Path) -> None:
    assert load_secrets(keyed(tmp_path, "# nobody yet\n")).created


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pk_good_key_1\nshort\nAcme:pk_good_key_2", "line 2: expected keys of at least 8"),
        ("acme:pk_the_same\nglobex:pk_the_same", "one is given to acme and globex"),
        ("pk_publishable_x", "line 1: expected keys such as"),
        (b"\xff\xfe", "is no text"),
        ("#" * (2 << 20), "is larger than"),
    ],
)
def test_a_bad_file_of_keys_stops_the_start_and_shows_no_key(tmp_path: Path, text: str | bytes, expected: str) -> None:
    with pytest.raises(SettingsError, match=expected) as caught:
        load_secrets(keyed(tmp_path, text))
    for key in ("pk_good", "pk_the_same", "pk_publishable_x"):
        assert key not in str(caught.value)


def test_a_file_of_keys_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_secrets(Settings(data_dir=tmp_path, api_keys_file=tmp_path / "nowhere"))


def test_a_key_in_the_settings_belongs_to_one_organisation(data_dir: Path) -> None:
    keys = (SecretStr("pk_the_same_key"), SecretStr("acme:pk_the_same_key"))
    with pytest.raises(SettingsError, match="default and acme"):
        load_secrets(Settings(data_dir=data_dir, api_keys=keys))
