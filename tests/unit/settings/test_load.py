"""Where settings come from, and which place wins."""

from pathlib import Path

import pytest

from pipeline.settings import Settings, describe, load
from tests.unit.settings.places import refused, toml

# -- places ------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_without_anything_the_defaults_are_those_of_the_contract() -> None:
    settings = load(None, {"HOME": "/", "OTHER_HTTP__PORT": "1"})
    assert settings.subscription.name == "Klaviyo Integration"
    assert settings.subscription.version == "v1.0"
    assert settings.slug == "klaviyo-integration"
    assert settings.klaviyo.api_url == "https://a.klaviyo.com"
    assert settings.klaviyo.api_key.get_secret_value() == ""
    assert settings.klaviyo.api_revision == "2023-10-15"
    assert settings.klaviyo.strict_revision is False
    assert settings.klaviyo.generate_events is True
    assert settings.throttle.limit is None
    assert settings.throttle.seconds is None
    assert settings.throttle.concurrent_connections == 10
    assert settings.throttle.quota_share == 1.0
    assert settings.kafka.bootstrap_servers == "localhost:9092"
    assert settings.kafka.topics == ("shop.customers", "shop.orders")
    assert settings.kafka.group == "klaviyo-klaviyo-integration"
    assert settings.kafka.start == "none"
    assert settings.kafka.session_timeout == 15
    assert settings.topics.dead_letters == "klaviyo.dead-letters"
    assert settings.topics.state == "klaviyo.state"
    assert settings.topics.create is True
    assert settings.events.order_placed == "Placed Order"
    assert settings.events.ordered_product == "Ordered Product"
    assert settings.events.order_fulfilled == "Fulfilled Order"
    assert settings.events.order_cancelled == "Cancelled Order"
    assert settings.events.order_refunded == "Refunded Order"
    assert settings.profile.identity_conflict == "drop_identifier"
    assert settings.profile.default_country == ""
    assert settings.deliver.malformed_limit == 100
    assert settings.deliver.buffer_bytes == 64 * 1024 * 1024
    assert settings.deliver.buffer_records == 50_000
    assert settings.deletes.policy == "ignore"
    assert (settings.reverse.interval, settings.reverse.overlap) == (10, 30)
    assert (settings.http.host, settings.http.port) == ("0.0.0.0", 8080)
    assert (settings.log.format, settings.log.level) == ("auto", "info")


def test_made_by_hand_settings_read_neither_file_nor_environment(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml(here, "[http]\nport = 1", "pipeline.toml")
    monkeypatch.setenv("PIPELINE_HTTP__PORT", "2")
    monkeypatch.setenv("HTTP", '{"port": 3}')
    assert Settings().http.port == 8080


def test_the_environment_wins_over_secret_files_and_those_over_the_file(
    here: Path, secrets: Path
) -> None:
    path = toml(here, '[http]\nport = 1\nhost = "one"\n[log]\nlevel = "error"')
    (secrets / "PIPELINE_HTTP__PORT").write_text("2\n")
    (secrets / "PIPELINE_HTTP__HOST").write_text("two\n")
    environ = {"PIPELINE_HTTP__PORT": "3", "PIPELINE_SECRETS_DIR": str(secrets)}
    settings = load(path, environ)
    assert settings.http.port == 3
    assert settings.http.host == "two"
    assert settings.log.level == "error"


def test_the_file_is_the_option_else_the_variable_else_pipeline_toml(here: Path) -> None:
    option = toml(here, "[http]\nport = 1")
    variable = toml(here, "[http]\nport = 2", "variable.toml")
    toml(here, "[http]\nport = 3", "pipeline.toml")
    environ = {"PIPELINE_CONFIG": str(variable)}
    assert load(option, environ).http.port == 1
    assert load(None, environ).http.port == 2
    assert load(None, {}).http.port == 3


def test_an_empty_variable_counts_as_not_set(here: Path) -> None:
    path = toml(here, "[http]\nport = 1")
    environ = {
        "PIPELINE_HTTP__PORT": "",
        "PIPELINE_CONFIG": "",
        "PIPELINE_SECRETS_DIR": "",
    }
    assert load(path, environ).http.port == 1


@pytest.mark.usefixtures("here")
def test_lists_in_the_environment_are_comma_separated() -> None:
    settings = load(None, {"PIPELINE_KAFKA__TOPICS": " a, ^shop\\..* ,b,"})
    assert settings.kafka.topics == ("a", "^shop\\..*", "b")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("text", "value"),
    [("TRUE", True), ("False", False), ("fAlSe", False), ("1", True), ("off", False)],
)
def test_booleans_are_taken_in_any_case(text: str, value: object) -> None:
    settings = load(None, {"PIPELINE_KLAVIYO__GENERATE_EVENTS": text})
    assert settings.klaviyo.generate_events is value


def test_the_file_may_write_values_in_the_forms_people_use(here: Path) -> None:
    path = toml(
        here,
        """
        [klaviyo]
        api_url = "http://127.0.0.1:9000/"
        api_revision = 2026-07-15
        [kafka]
        bootstrap_servers = ["one:9092", "two:9092"]
        topics = "a, b"
        security_protocol = "ssl"
        session_timeout = 6
        [deliver]
        buffer_bytes = "32 MiB"
        [profile]
        default_country = "gb"
        [log]
        level = "DEBUG"
        """,
    )
    settings = load(path, {})
    assert settings.klaviyo.api_url == "http://127.0.0.1:9000"
    assert settings.klaviyo.api_revision == "2026-07-15"
    assert settings.kafka.bootstrap_servers == "one:9092,two:9092"
    assert settings.kafka.topics == ("a", "b")
    assert settings.kafka.security_protocol == "SSL"
    assert settings.deliver.buffer_bytes == 32 * 1024 * 1024
    assert settings.profile.default_country == "GB"
    assert settings.log.level == "debug"


@pytest.mark.usefixtures("here")
def test_the_slug_names_the_group_unless_one_is_set() -> None:
    name = {"PIPELINE_SUBSCRIPTION__NAME": "  Mein Shöp (EU) 2 "}
    assert load(None, name).slug == "mein-shop-eu-2"
    assert load(None, name).kafka.group == "klaviyo-mein-shop-eu-2"
    named = load(None, name | {"PIPELINE_KAFKA__GROUP": "ours"})
    assert named.kafka.group == "ours"


@pytest.mark.usefixtures("here")
def test_the_variables_kubernetes_adds_for_a_service_are_no_settings() -> None:
    environ = {
        "PIPELINE_SERVICE_HOST": "10.0.0.1",
        "PIPELINE_SERVICE_PORT": "80",
        "PIPELINE_SERVICE_PORT_HTTP": "80",
        "PIPELINE_PORT": "tcp://10.0.0.1:80",
        "PIPELINE_PORT_80_TCP": "tcp://10.0.0.1:80",
        "PIPELINE_PORT_80_TCP_ADDR": "10.0.0.1",
    }
    assert load(None, environ).http.port == 8080
    text = refused(None, {"PIPELINE_PORT": "80"})
    assert "did you mean PIPELINE_HTTP__PORT?" in text


# -- the description ---------------------------------------------------------------------


def test_every_setting_is_described_with_default_and_one_sentence() -> None:
    described = {setting.name: setting for setting in describe()}
    assert len(described) == 68
    for setting in described.values():
        assert setting.meaning.endswith("."), setting.name
        assert setting.default, setting.name
    assert described["klaviyo.api_key"].secret
    assert described["kafka.sasl_password"].secret
    assert described["klaviyo.client_secret"].secret
    assert described["secrets.key"].secret
    assert sum(setting.secret for setting in described.values()) == 5
    assert described["klaviyo.api_key"].default == "blank"
    assert described["kafka.topics"].default == "shop.customers, shop.orders"
    assert described["deliver.buffer_bytes"].default == "64 MiB"
    assert described["kafka.session_timeout"].default == "15"
    assert described["klaviyo.generate_events"].default == "true"
    assert described["http.port"].variable == "PIPELINE_HTTP__PORT"


def test_scopes_are_written_with_commas_or_blanks_and_blank_is_all_we_use() -> None:
    for text in ("accounts:read, events:write", "accounts:read events:write"):
        settings = load(None, {"PIPELINE_KLAVIYO__SCOPES": text})
        assert settings.klaviyo.scopes == ("accounts:read", "events:write")
    assert "subscriptions:write" in load(None, {}).klaviyo.scopes
    assert load(None, {}).klaviyo.redirect_url.startswith("http://localhost:8080/")


def test_all_keys_of_a_rotation_are_hidden_and_the_client_secret_too() -> None:
    environ = {
        "PIPELINE_SECRETS__KEY": "planted-1, planted-2",
        "PIPELINE_KLAVIYO__CLIENT_SECRET": "planted-3",
    }
    settings = load(None, environ)
    assert {"planted-1", "planted-2", "planted-3"} <= set(settings.secret_values())
    assert "planted" not in repr(settings)
