"""`models`: what each model accepts, for people and programs, and which models the server lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

from omni_async import MODELS

if TYPE_CHECKING:
    from tests.support.shell import Shell


async def test_the_table_needs_no_key_and_no_network(bare_shell: Shell) -> None:
    """Every model has a line with what it accepts; the default is marked."""
    result = await bare_shell.omni("models")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].split() == ["model", "seconds", "resolutions", "images", "frames", "videos", "extend"]
    assert [line.split("  ")[0] for line in lines[1:4]] == list(MODELS)
    new, ext = lines[2:4]
    assert "360p, 720p, 1080p, 4k" in new
    assert "4, 6, 8, 10" in ext
    assert "0, 1, 3" in ext
    assert lines[4] == ""
    assert lines[5] == "gemini-omni-flash-preview (the default)"
    assert "  3 to 10 s, chosen by the model" in lines[6:]
    assert "gemini-omni-1.1-flash-ext (Omni-Flash-Ext)" in lines[6:]
    assert any(line.startswith("  price per second: 720p $") for line in lines[6:])


async def test_json_prints_every_rule(bare_shell: Shell) -> None:
    """--json prints an object per model with everything that the table knows."""
    result = await bare_shell.omni("models", "--json")
    found = {record["id"]: record for record in result.records}
    assert found.keys() == MODELS.keys()
    assert found["gemini-omni-1.1-flash-ext"]["durations"] == [4, 6, 8, 10]
    assert found["gemini-omni-1.1-flash-ext"]["generation_types"] == {"frame": [1], "reference": [1, 3]}
    assert {record["served"] for record in found.values()} == {None}
    assert [record["id"] for record in found.values() if record["default"]] == ["gemini-omni-flash-preview"]


async def test_with_a_key_the_server_is_asked(shell: Shell) -> None:
    """With a key, each line says whether the server has the model; if the server refuses, the table is shown alone."""
    result = await shell.omni("models")
    assert (result.status, result.err) == (0, "")
    assert [line.rstrip().endswith("available") for line in result.out.splitlines()[1:4]] == [True, True, True]
    *models, last = (await shell.omni("models", "--json")).records
    assert [model["served"] for model in models] == [True, True, True]
    assert set(last["served"]) == {name for rules in MODELS.values() for name in rules.names}
    wrong = await shell.omni("models", APIMART_API_KEY="sk-other")
    assert (wrong.status, "Omni-Flash-Ext" in wrong.out) == (3, True)
    assert "the models of the server could not be listed" in wrong.err
