"""API key and address: what people put there by mistake is recognised before anything is sent, and never shown."""

from __future__ import annotations

import pytest

from omni_async import DEFAULT_BASE_URL, AuthenticationError, OmniClient
from omni_async.client.credentials import validate_api_key, validate_base_url

SECRET = "sk-" + "AbC123dEf456" * 4

KEYS = (
    "sk-good",
    SECRET,
    "data",
    "x",
    "k",
    "a-very-long-key-of-a-proxy==",
    "user:pass",
    "my",
    "eyJhbGciOi.eyJzdWIi.c2ln",
    "key",
    "sk-x",
    "my-key",
)

# What was pasted, and what the message says of it.
MISTAKES = [
    *((f"{quote}{SECRET}{quote}", "in quotes") for quote in ('"', "'", "`", "\u2019")),
    (f"\u201c{SECRET}\u201d", "in quotes"),
    (f'"{SECRET}', "in quotes"),
    (f'{SECRET}"', "in quotes"),
    (f'"{SECRET}",', "in quotes"),
    (f"Bearer {SECRET}", "Bearer"),
    (f"bearer {SECRET}", "Bearer"),
    (f"Bearer%20{SECRET}", "Bearer"),
    (f"Authorization: Bearer {SECRET}", "Bearer"),
    (f"Bearer: {SECRET}", "Bearer"),
    (f"APIMART_API_KEY={SECRET}", "assignment"),
    (f"APIMART_API_KEY = {SECRET}", "assignment"),
    (f"export APIMART_API_KEY={SECRET}", "assignment"),
    (f"set APIMART_API_KEY={SECRET}", "assignment"),
    (f"setx APIMART_API_KEY {SECRET}", "assignment"),
    (f"$env:APIMART_API_KEY={SECRET}", "assignment"),
    (f"APIMART_API_KEY: {SECRET}", "assignment"),
    (f"OPENAI_API_KEY={SECRET}", "assignment"),
    (f"api_key={SECRET}", "assignment"),
    (f'{{"api_key": "{SECRET}"}}', "JSON"),
    ("...", "placeholder"),
    ("sk-...", "placeholder"),
    ("sk-", "placeholder"),
    ("sk-xxxxxxxxxxxxxxxx", "placeholder"),
    ("sk-XXXX", "placeholder"),
    ("xxxxxxxx", "placeholder"),
    ("your_api_key", "placeholder"),
    ("YOUR-API-KEY", "placeholder"),
    ("YOUR_APIMART_API_KEY", "placeholder"),
    ("sk-your-key-here", "placeholder"),
    ("<your key>", "placeholder"),
    ("<token>", "placeholder"),
    ("[API KEY]", "placeholder"),
    ("API_KEY", "placeholder"),
    ("apimart-api-key", "placeholder"),
    ("changeme", "placeholder"),
    ("replace-me", "placeholder"),
    ("insert_your_key", "placeholder"),
    ("None", "placeholder"),
    ("null", "placeholder"),
    ("undefined", "placeholder"),
    ("$APIMART_API_KEY", "not replaced"),
    ("${APIMART_API_KEY}", "not replaced"),
    ("%APIMART_API_KEY%", "not replaced"),
    ("${{ secrets.APIMART_API_KEY }}", "not replaced"),
    ("$(cat key.txt)", "not replaced"),
    ("sk-AbC1****************x234", "masked"),
    ("sk-AbC1...x234", "masked"),
    ("sk-AbC1\u2026\u2026x234", "masked"),
    ("https://api.apimart.ai", "address"),
    ("~/.apimart/key", "path"),
    ("/run/secrets/apimart", "path"),
    ("C:\\keys\\apimart.txt", "path"),
    (f"{SECRET}\n{SECRET}", "white space"),
    (f"{SECRET} # mine", "white space"),
    (f"sk-AbC\u200b{SECRET}", "U+200B"),
    (f"\ufeff{SECRET}", "U+FEFF"),
    (f"{SECRET}\x00", "U+0000"),
    ("sk-schlüssel", "non-ASCII"),
    (f"{SECRET};", "ends with"),
    (f"{SECRET},{SECRET}", "several keys"),
]

ADDRESSES = [
    ("https://api.apimart.ai/v1/videos/generations", "one endpoint. .*: https://api.apimart.ai$"),
    ("https://api.apimart.ai/v1/videos/generations/", "one endpoint"),
    ("https://api.apimart.ai/videos/generations", "one endpoint"),
    ("https://api.apimart.ai/v1/tasks/task_01", "one endpoint"),
    ("https://api.apimart.ai/v1/tasks/", "one endpoint"),
    ("https://api.apimart.ai/v1/models", "one endpoint"),
    ("https://api.apimart.ai/v1/balance", "one endpoint"),
    ("https://api.apimart.ai/v1/usage", "one endpoint"),
    ("https://api.apimart.ai/v1/chat/completions", "one endpoint"),
    ("https://api.apimart.ai/v1/uploads/images", "one endpoint"),
    ("https://gateway.test/apimart/v1/videos/generations", "one endpoint. .*: https://gateway.test/apimart$"),
    ("https://apimart.ai", "website"),
    ("https://docs.apimart.ai/en/api-reference", "website"),
    ('"https://api.apimart.ai"', "quotes"),
    ("'https://api.apimart.ai", "quotes"),
    ("<https://api.apimart.ai>", "brackets"),
    ("APIMART_BASE_URL=https://api.apimart.ai", "assignment"),
    ("export APIMART_BASE_URL=https://api.apimart.ai", "assignment"),
    ("${APIMART_BASE_URL}", "not replaced"),
    ("api.apimart.ai", "such as https://api.apimart.ai$"),
    ("api.apimart.ai/v1", "such as https://api.apimart.ai/v1$"),
    ("//api.apimart.ai", "not an http"),
    ("https:/api.apimart.ai", "not an http"),
    ("htps://api.apimart.ai", "not an http"),
    ("https://api.apimart.ai v1", "not an http"),
    (SECRET, "looks like an API key"),
    (f"APIMART_API_KEY={SECRET}", "looks like an API key"),
    ("http://api.apimart.ai", "plain http"),
]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_taken_as_it_is(key: str) -> None:
    """What may be a key is one, of whatever form; only the white space around it is removed."""
    assert validate_api_key(f" {key}\r\n") == key


@pytest.mark.parametrize(("pasted", "finding"), MISTAKES)
def test_what_is_no_key_is_recognised(pasted: str, finding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake is named, in Python and in the environment, and no part of the key is shown."""
    with pytest.raises(AuthenticationError, match="api_key is not an API key") as from_argument:
        OmniClient(pasted)
    if "\x00" not in pasted:
        monkeypatch.setenv("APIMART_API_KEY", pasted)
        with pytest.raises(AuthenticationError, match="APIMART_API_KEY is not an API key") as from_environment:
            OmniClient()
        assert finding in str(from_environment.value)
    assert finding in str(from_argument.value)
    assert SECRET[:6] not in str(from_argument.value)


@pytest.mark.parametrize("key", ["sk-x", "sk-", "my-key", "your_api_key", "<token>", "xxxx", "0000", "none", "api_key"])
@pytest.mark.parametrize("server", ["http://127.0.0.1:8000", "http://localhost:8000/api", "http://[::1]:1"])
def test_a_server_on_this_machine_may_take_anything_for_a_key(key: str, server: str) -> None:
    """The sandbox, and servers that people write for tests, are used with keys that are placeholders elsewhere."""
    assert validate_api_key(key, server) == key


@pytest.mark.parametrize(("name", "is_noted"), [("APIMART_KEY", True), ("APIMART_TOKEN", True), ("OTHER_KEY", False)])
def test_a_variable_with_nearly_the_right_name_is_noted(
    name: str, is_noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key, the error names the variable that was probably meant, and not its value."""
    monkeypatch.delenv("APIMART_API_KEY", raising=False)
    monkeypatch.setenv(name, SECRET)
    with pytest.raises(AuthenticationError, match="set APIMART_API_KEY") as raised:
        OmniClient()
    assert (f"{name} is set" in str(raised.value)) is is_noted
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("https://api.apimart.ai/v1/", DEFAULT_BASE_URL),
        (" https://api.apimart.ai\n", DEFAULT_BASE_URL),
        ("https://gateway.test/v1/account/apimart", "https://gateway.test/v1/account/apimart"),
        ("https://models.test", "https://models.test"),
        ("https://proxy.test/sk-path/v1", "https://proxy.test/sk-path"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ],
)
def test_an_address_is_taken_as_it_is(address: str, taken: str) -> None:
    """An address may have a path of its own; white space, a final slash and /v1 are removed."""
    assert validate_base_url(address) == taken


@pytest.mark.parametrize(("pasted", "finding"), ADDRESSES)
def test_what_is_not_the_address_of_the_api_is_recognised(pasted: str, finding: str) -> None:
    """Each mistake is named, with the address that was probably meant; a key that was put there is not shown."""
    with pytest.raises(ValueError, match=finding) as raised:
        OmniClient("sk-good", base_url=pasted)
    assert SECRET[:6] not in str(raised.value)
