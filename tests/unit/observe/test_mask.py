"""What a log line may not show, and what it must still show."""

import pytest

from pipeline.observe.mask import Mask


@pytest.mark.parametrize(
    "private",
    [
        "pk_0123456789abcdef0123456789abcdef01",
        "ada@shop.dev",
        "ada.love+lace@mail.shop.co.uk",
        "ada%40shop.dev",
        "ädä@shöp.dev",
        "+12025550123",
        "+1 202 555 0123",
        "+1 (202) 555-0123",
        "+49 30 123456",
        "%2B12025550123",
        "00442071234567",
        "202-555-0123",
        "(202) 555-0123",
    ],
)
def test_it_is_hidden_wherever_it_stands(private: str) -> None:
    mask = Mask()
    for text in (private, f"no '{private}', see", f"a={private}&b=1", f'"{private}"'):
        assert private not in mask.text(text)
        assert private not in str(mask.fields({"x": text, "y": [{"z": (text,)}]}))
        assert private not in str(mask.fields({text: 1, "e": ValueError(text)}))
        assert private not in str(mask.fields({"b": text.encode()}))


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer eyJhbGciOi.TOKEN-TOKEN.sig",
        "Authorization: Klaviyo-API-Key TOKEN-TOKEN",
        "bearer  TOKEN-TOKEN",
        "grant_type=refresh_token&refresh_token=TOKEN-TOKEN&x=1",
        '{"access_token": "TOKEN.TOKEN", "refresh_token":"TOKEN/TOKEN="}',
        r'b"{\"access_token\": \"TOKEN\"}"',
        "{'client_secret': 'TOKEN'}",
        "code_verifier=TOKEN~TOKEN",
    ],
)
def test_a_token_behind_its_scheme_is_hidden(text: str) -> None:
    assert "TOKEN" not in Mask().text(text)


@pytest.mark.parametrize(
    "name",
    ["email", "phone_number", "api_key", "sasl_password", "Authorization", "token"],
)
def test_fields_with_a_private_name_are_hidden_whatever_they_hold(name: str) -> None:
    assert "plain" not in str(Mask().fields({name: "plain", "x": {name: ["plain"]}}))


def test_secrets_in_force_are_hidden_also_after_they_changed() -> None:
    current = ["first-secret"]
    mask = Mask(lambda: current)
    assert "first-secret" not in mask.text("url?x=first-secret")
    current[0] = "other-secret"
    assert "other-secret" not in mask.text("url?x=other-secret")
    current[0] = ""
    assert mask.text("plain words") == "plain words"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-01T10:00:00.123456+00:00",
        "2026-11-01T10:00:00Z",
        "2026-07-15",
        "shop.orders-3 at offset 12345678901",
        "10.0.0.1:9092",
        "took 30.125 s",
        "klaviyo.client_secret, from pipeline.toml: must be one word",
        "klaviyo-klaviyo-integration",
        "Klaviyo answered 503; next attempt in 12.5 s",
        "01HZX5K8Q2V3W4Y5Z6A7B8C9D0",
    ],
)
def test_what_an_operator_needs_stays_readable(text: str) -> None:
    assert Mask().text(text) == text


def test_numbers_stay_numbers() -> None:
    fields = {"offset": 12025550123, "lag": 1.5, "ok": True, "none": None}
    assert Mask().fields(fields) == fields


def test_what_lies_too_deep_is_hidden_rather_than_searched() -> None:
    nested: dict[str, object] = {"x": "ada@shop.dev"}
    nested["self"] = nested
    assert "ada@shop.dev" not in str(Mask().fields({"a": nested}))
