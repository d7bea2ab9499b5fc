"""What settings are refused, and that all is said about it but a secret."""

from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from pipeline.errors import SettingsError
from pipeline.settings import Settings, describe, load
from tests.unit.settings.places import SECRET, refused, toml

# -- unknown names -----------------------------------------------------------------------


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("PIPELINE_KLAVIYO__API_KYE", "PIPELINE_KLAVIYO__API_KEY"),
        ("PIPELINE_KLAVIYO_API_KEY", "PIPELINE_KLAVIYO__API_KEY"),
        ("PIPELINE_API_KEY", "PIPELINE_KLAVIYO__API_KEY"),
        ("PIPELINE_klaviyo__api_key", "PIPELINE_KLAVIYO__API_KEY"),
        ("PIPELINE_KAFKA__BOOTSTRAP_SERVER", "PIPELINE_KAFKA__BOOTSTRAP_SERVERS"),
        ("PIPELINE_SECRET_DIR", "PIPELINE_SECRETS_DIR"),
        ("PIPELINE_CONFG", "PIPELINE_CONFIG"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest(name: str, nearest: str) -> None:
    text = refused(None, {name: SECRET})
    assert f"{name}, from the environment: there is no such setting" in text
    assert f"did you mean {nearest}?" in text
    assert SECRET not in text


def test_a_name_with_nothing_near_says_what_to_do(here: Path) -> None:
    path = toml(here, "[zzz]\nqqq = 1")
    text = refused(path, {"PIPELINE_QQQQQQQQ__ZZZZZZZ": "1"})
    assert text.count("remove it, or look the name up in the README") == 2


@pytest.mark.parametrize(
    ("text", "name", "nearest"),
    [
        ("[klavio]\nx = 1", "[klavio]", "did you mean [klaviyo]?"),
        ("[klaviyo]\napi_kee = 1", "klaviyo.api_kee", "did you mean klaviyo.api_key?"),
        ("[kafka]\nquota_share = 1", "kafka.quota_share", "mean throttle.quota_share?"),
        ("api_key = 'x'", "api_key", "did you mean klaviyo.api_key?"),
        ("http = 8080", "http", "write [http]"),
    ],
)
def test_an_unknown_name_in_the_file_is_refused_with_the_nearest(
    here: Path, text: str, name: str, nearest: str
) -> None:
    path = toml(here, text)
    said = refused(path, {})
    assert f"{name}, from {path}: " in said
    assert nearest in said


def test_an_unknown_secret_file_is_refused_with_the_nearest(secrets: Path) -> None:
    (secrets / "PIPELINE_KLAVIYO__APIKEY").write_text(SECRET)
    (secrets / "klaviyo-key").write_text(SECRET)
    (secrets / ".hidden").write_text(SECRET)
    (secrets / "..data").mkdir()
    text = refused(None, {"PIPELINE_SECRETS_DIR": str(secrets)})
    assert f"PIPELINE_KLAVIYO__APIKEY, from {secrets}" in text
    assert "did you mean PIPELINE_KLAVIYO__API_KEY?" in text
    assert f"klaviyo-key, from {secrets}" in text
    assert "hidden" not in text
    assert SECRET not in text


def test_all_findings_are_named_at_once_each_with_its_place(
    here: Path, secrets: Path
) -> None:
    path = toml(here, "[throtle]\nlimit = 1\n[http]\nport = 70000\n[log]\nlevel = 'loud'")
    (secrets / "PIPELINE_KAFKA__SASL_PASWORD").write_text("x")
    text = refused(
        path,
        {
            "PIPELINE_SECRETS_DIR": str(secrets),
            "PIPELINE_LOG__LEVL": "x",
            "PIPELINE_KAFKA__SESSION_TIMEOUT": "5",
        },
    )
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert len(lines) == 6
    assert f"http.port, from {path}: must be less than or equal to 65535" in text
    assert (
        "from PIPELINE_KAFKA__SESSION_TIMEOUT in the environment: must be greater" in text
    )
    assert (
        f"log.level, from {path}: must be 'debug', 'info', 'warning' or 'error'" in text
    )


# -- values ------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("THROTTLE__LIMIT", "5", "limit and seconds go together"),
        ("THROTTLE__SECONDS", "5", "limit and seconds go together"),
        ("THROTTLE__LIMIT", "0", "must be greater than 0"),
        ("THROTTLE__QUOTA_SHARE", "0", "must be greater than 0"),
        ("THROTTLE__QUOTA_SHARE", "1.01", "must be less than or equal to 1"),
        ("THROTTLE__QUOTA_SHARE", "nan", "must be"),
        ("THROTTLE__CONCURRENT_CONNECTIONS", "0", "must be greater than 0"),
        ("KLAVIYO__API_URL", "a.klaviyo.com", "starts with https:// or http://"),
        ("KLAVIYO__API_URL", "ftp://a.klaviyo.com", "starts with https:// or http://"),
        ("KLAVIYO__API_URL", "https://", "starts with https:// or http://"),
        ("KLAVIYO__API_URL", "https://a:b@klaviyo.com", "without credentials"),
        ("KLAVIYO__API_URL", "https://a.klaviyo.com/?x=1", "without credentials, query"),
        ("KLAVIYO__API_URL", "https://a.klaviyo.com/api", "end before /api"),
        ("KLAVIYO__API_URL", "http://127.0.0.1:9000/x/api/", "end before /api"),
        ("KLAVIYO__API_REVISION", "v2024-10-15", "must be a date"),
        ("KLAVIYO__API_REVISION", "2024-13-45", "must be a date"),
        ("KLAVIYO__API_REVISION", "2024-10-15.pr", "must be a date"),
        ("KLAVIYO__API_KEY", "pk_a pk_b", "one word of plain characters"),
        ("KLAVIYO__GENERATE_EVENTS", "maybe", "must be a valid boolean"),
        ("DELIVER__BUFFER_BYTES", "0", "must be greater than 0"),
        ("DELIVER__BUFFER_BYTES", "64 elephants", "must be a number of bytes"),
        ("DELIVER__BUFFER_RECORDS", "-1", "must be greater than 0"),
        ("DELIVER__MALFORMED_LIMIT", "0", "must be greater than 0"),
        ("KAFKA__SESSION_TIMEOUT", "5.9", "must be greater than or equal to 6"),
        ("KAFKA__SESSION_TIMEOUT", "inf", "must be"),
        ("KAFKA__TOPICS", ",", "must have at least 1 item"),
        ("KAFKA__TOPICS", "a b", "must be a Kafka topic name"),
        ("KAFKA__TOPICS", "^shop(", "no regular expression"),
        ("KAFKA__START", "begin", "must be 'none', 'earliest' or 'latest'"),
        ("KAFKA__SECURITY_PROTOCOL", "SASL_SSL", "needs sasl_username and sasl_password"),
        ("KAFKA__SSL_KEYFILE", "key.pem", "ssl_keyfile needs ssl_certfile"),
        ("SCHEMA_REGISTRY__URL", "registry:8081", "must be a URL"),
        ("SCHEMA_REGISTRY__URL", "https://u:p@registry", "must have no login in it"),
        ("KLAVIYO__REDIRECT_URL", "http://u:p@localhost/a", "must have no login in it"),
        ("KAFKA__BOOTSTRAP_SERVERS", "u:p@kafka:9092", "must have no login in it"),
        ("TOPICS__DEAD_LETTERS", "..", "must be a Kafka topic name"),
        ("TOPICS__DEAD_LETTERS", "shop.orders", "would be read again"),
        ("SUBSCRIPTION__NAME", "!!!", "at least one letter a-z or digit"),
        ("SUBSCRIPTION__VERSION", "v1\r\nX: y", "must match pattern"),
        ("EVENTS__ORDER_PLACED", " ", None),
        ("EVENTS__ORDER_PLACED", "x" * 128, "at most 127 characters"),
        ("PROFILE__DEFAULT_COUNTRY", "UK", "ISO 3166"),
        ("PROFILE__IDENTITY_CONFLICT", "drop", "must be 'drop_identifier', "),
        ("DELETES__POLICY", "delete", "must be 'ignore', 'suppress' or 'erase'"),
        ("HTTP__PORT", "-1", "must be greater than or equal to 0"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(
    variable: str, value: str, says: str | None
) -> None:
    environ = {f"PIPELINE_{variable}": value}
    if says is None:
        load(None, environ)  # blank: not set
        return
    text = refused(None, environ)
    assert says in text
    assert f"PIPELINE_{variable}" in text


def test_erasing_needs_a_key() -> None:
    erasing = {"PIPELINE_DELETES__POLICY": "Erase"}
    assert "secrets.key is blank" in refused(None, erasing)
    key = {"PIPELINE_SECRETS__KEY": Fernet.generate_key().decode()}
    assert load(None, erasing | key).deletes.policy == "erase"
    assert load(None, {"PIPELINE_DELETES__POLICY": "suppress"}).secrets.key is not None


def test_true_is_no_number(here: Path) -> None:
    path = toml(here, "[http]\nport = true\n[throttle]\nconcurrent_connections = true")
    assert refused(path, {}).count("must be a number") == 2


@pytest.mark.usefixtures("here")
def test_limit_and_seconds_together_are_taken() -> None:
    environ = {"PIPELINE_THROTTLE__LIMIT": "5", "PIPELINE_THROTTLE__SECONDS": "0.5"}
    throttle = load(None, environ).throttle
    assert (throttle.limit, throttle.seconds) == (5, 0.5)


@pytest.mark.parametrize("text", ["[http", "x = ", "[http]\nport = 1\nport = 2"])
def test_a_file_that_is_not_toml_is_refused_with_the_line(here: Path, text: str) -> None:
    path = toml(here, text)
    assert f"{path} is not TOML (at " in refused(path, {})


def test_files_that_cannot_be_read_are_refused(here: Path) -> None:
    gone = here / "gone.toml"
    assert f"{gone} cannot be read" in refused(gone, {})
    assert f"{gone} cannot be read" in refused(None, {"PIPELINE_CONFIG": str(gone)})
    assert "cannot be read" in refused(here, {})
    assert "PIPELINE_SECRETS_DIR" in refused(None, {"PIPELINE_SECRETS_DIR": str(gone)})
    binary = here / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "not TOML in UTF-8" in refused(binary, {})


def test_a_secret_that_is_no_text_is_refused(secrets: Path) -> None:
    (secrets / "PIPELINE_KLAVIYO__API_KEY").mkdir()
    (secrets / "PIPELINE_KAFKA__SASL_PASSWORD").write_bytes(b"\xff\xfe\xff")
    (secrets / "PIPELINE_KAFKA__SASL_USERNAME").write_bytes(b"x" * 100_000)
    text = refused(None, {"PIPELINE_SECRETS_DIR": str(secrets)})
    assert text.count("must be a readable file") == 2
    assert "too large" in text


# -- secrets -----------------------------------------------------------------------------


def test_a_secret_planted_in_any_setting_is_never_repeated(here: Path) -> None:
    for setting in describe():
        section, field = setting.name.split(".")
        path = toml(here, f"[{section}]\n{field} = '12{SECRET}'")
        for config, environ in ((None, {setting.variable: f"12{SECRET}"}), (path, {})):
            error: object = None
            settings = Settings()
            try:
                settings = load(config, environ)
            except SettingsError as caught:
                error = caught
            assert SECRET not in f"{error} {error!r}", setting.name
            if setting.secret:
                shown = f"{settings} {settings!r} {settings.model_dump()}"
                assert SECRET not in shown + settings.model_dump_json(), setting.name
                assert settings.secret_values() == (f"12{SECRET}",)


def test_a_broken_file_with_a_secret_does_not_repeat_it(here: Path) -> None:
    for text in (f"[klaviyo]\napi_key = {SECRET}", f"[klaviyo]\napi_key = '{SECRET}"):
        assert SECRET not in refused(toml(here, text), {})


@pytest.mark.usefixtures("here")
def test_a_missing_credential_is_an_error_only_for_who_needs_it() -> None:
    with pytest.raises(SettingsError, match="PIPELINE_KLAVIYO__API_KEY"):
        load(None, {}).require_credential()
    load(None, {"PIPELINE_KLAVIYO__API_KEY": "pk_x"}).require_credential()


def test_settings_never_change() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.http.port = 1
    with pytest.raises(ValueError, match="frozen"):
        settings.http = settings.http


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("KLAVIYO__REDIRECT_URL", "localhost:8080/back", "must be a URL"),
        ("KLAVIYO__REDIRECT_URL", "http://localhost:8080", "path of its own"),
        ("KLAVIYO__REDIRECT_URL", "http://localhost:8080/metrics", "path of its own"),
        ("KLAVIYO__SCOPES", "profiles:write", "accounts:read"),
        ("KLAVIYO__SCOPES", "accounts:read profiles", "names of scopes"),
        ("TOPICS__STATE", "klaviyo.dead-letters", "topic of its own"),
        ("TOPICS__STATE", "shop.orders", "topic of its own"),
        ("TOPICS__PROFILES", "klaviyo.dead-letters", "the same topic"),
        ("TOPICS__STATE", "a/b", "Kafka topic name"),
    ],
)
def test_what_oauth_and_state_cannot_use_is_said(
    name: str, value: str, said: str
) -> None:
    assert said in refused(None, {f"PIPELINE_{name}": value})
