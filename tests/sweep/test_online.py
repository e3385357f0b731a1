"""The keys of the online mode, and what they make of a cell and of its id."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.fakes import REVIEWS

from packsweep.errors import SpecError
from packsweep.sweep import expansion, read, spec
from packsweep.sweep.cells import Cell

BASE: dict[str, Any] = {
    "model": {"name": "some/model", "load_format": "dummy"},
    "grid": {"strategy": "packed", "n": 2},
    "engine": {"kind": "simulated"},
}


def _sweep(mode: str = "online", **tables: dict[str, Any]) -> spec.Sweep:
    values = {**BASE, **{name: {**BASE.get(name, {}), **more} for name, more in tables.items()}}
    return read.parse({**values, "mode": mode}, where="f.toml")


def _cells(mode: str = "online", **tables: dict[str, Any]) -> tuple[Cell, ...]:
    sweep = _sweep(mode, **tables)
    return expansion.expand(sweep, REVIEWS, model_fingerprint="w", max_model_len=100)


@pytest.mark.parametrize(
    ("online", "expected"),
    [
        ({"rate": 0}, "online.rate: 0 is not allowed: expected greater than 0"),
        ({"rate": [-2.0]}, "online.rate: -2.0 is not allowed: expected greater than 0"),
        ({}, "online: takes exactly one of rate, concurrency and max_rate; given: none"),
        (
            {"rate": 1.0, "concurrency": 2},
            "online: takes exactly one of rate, concurrency and max_rate; given: rate and conc",
        ),
        ({"max_rate": 1.0}, "online.slo: is missing; max_rate needs one"),
        ({"rate": 1.0, "search_s": 9.0}, "online.search_s: has no effect without online.max_rate"),
        ({"concurrency": 2, "arrivals": "constant"}, "online.arrivals: has no effect with"),
        (
            {"rate": 1.0, "slo": "p99 e2e <= 500"},
            "online.slo: 'p99 e2e <= 500' is not allowed: the limit has no unit; write ms or s",
        ),
        (
            {"rate": float("nan")},
            "online.rate: nan is not allowed: expected a finite number",
        ),
        ({"concurrency": 0}, "online.concurrency: 0 is not allowed: expected greater than"),
        ({"concurrency": 20_000}, "online.concurrency: 20000 is not allowed: expected less"),
        (
            {"rate": [1.0, 0.001], "window_s": 20.0},
            "online.window_s: at 0.001 texts/s a window of 20 s brings less than one text; set it",
        ),
        (
            {"rate": 1e6},
            "online.rate: at 1e+06 texts/s a window of 60 s brings 60,000,000 texts, and",
        ),
        (
            {"max_rate": 1.0, "slo": "p99 e2e <= 2 s", "search_s": 60.0},
            "online.search_s: 60 s hold no window: it takes 60 s, and 8 s before them until queues",
        ),
        (
            {"max_rate": 9.0, "slo": "p99 e2e <= 20 s", "window_s": 2.0},
            "online.search_s: 80 s hold no window: it takes 2 s, and 80 s before them until queues",
        ),
        ({"rate": 1.0, "window": 3.0}, "online.window: unknown key; did you mean online.window_s?"),
        ({"rate": 1.0, "url": "http://h:1"}, "online.url: goes together with engine.kind"),
        ({"rate": 1.0, "api_key_env": "KEY"}, "online.api_key_env: has no effect without"),
    ],
)
def test_parse_refused(online: dict[str, Any], expected: str) -> None:
    """What makes no load is one line with the key and what is allowed."""
    with pytest.raises(SpecError) as refused:
        _sweep(online=online)
    assert str(refused.value).startswith(f"f.toml: {expected}")


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"online": {"rate": 1.0}}, 'online: has no effect without mode = "online"'),
        ({"engine": {"kind": "external"}}, "engine.kind: external is for mode"),
    ],
)
def test_parse_offline_refused(tables: dict[str, Any], expected: str) -> None:
    """An offline sweep has no load."""
    with pytest.raises(SpecError) as refused:
        _sweep("offline", **tables)
    assert str(refused.value).startswith(f"f.toml: {expected}")


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"grid": {"strategy": "separate", "answer": "logprob"}}, "grid.answer: logprob is"),
        (
            {"measure": {"stop_at_half_width": 0.1, "max_repeats": 9}},
            "measure.stop_at_half_width: is for offline passes",
        ),
    ],
)
def test_parse_offline_only(tables: dict[str, Any], expected: str) -> None:
    """What only a pass of known requests can do is refused online."""
    with pytest.raises(SpecError) as refused:
        _sweep(online={"rate": 1.0}, **tables)
    assert str(refused.value).startswith(f"f.toml: {expected}")


def test_parse_isolation_of_url() -> None:
    """A server that is there serves all cells anyway."""
    with pytest.raises(SpecError) as refused:
        _sweep(
            online={"rate": 1.0, "url": "http://h:1"},
            engine={"kind": "external"},
            measure={"isolation": "engine"},
        )
    assert "measure.isolation: has no effect on an existing server" in str(refused.value)


def test_parse_url_secret() -> None:
    """A password in an address is refused, and not shown."""
    online = {"rate": 1.0, "url": "http://user:hunter2@host:1"}
    with pytest.raises(SpecError) as refused:
        _sweep(online=online, engine={"kind": "external"})
    assert "name a key by api_key_env" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/completions"])
def test_parse_url_base(path: str) -> None:
    """The version that all paths begin with may stand in the address, or the whole endpoint."""
    sweep = _sweep(online={"rate": 1.0, "url": f"http://h:1{path}"}, engine={"kind": "external"})
    assert sweep.online.url == "http://h:1"


@pytest.mark.parametrize(
    "url",
    [
        "h:1",
        "ftp://h",
        "http://:80",
        "http://h:x",
        "http://h:0",
        "http://h:99999",
        "http://[::1",
        "http://h h",
        "http://h/a b",
        "http://h/\n",
        "http://ä",
        "",
    ],
)
def test_parse_url_refused(url: str) -> None:
    """What is no address is told before anything is asked of it."""
    with pytest.raises(SpecError, match="is not an address such as http:"):
        _sweep(online={"rate": 1.0, "url": url}, engine={"kind": "external"})


def test_expand_rates() -> None:
    """Every rate is a cell, and its load holds what applies to it alone."""
    first, second = _cells(online={"rate": [0.5, 2], "slo": "p99 e2e <= 2 s", "window_s": 5.0})
    assert (first.load.rate, second.load.rate) == (0.5, 2.0)
    assert json.loads(first.online) == {
        "arrivals": "poisson",
        "rate": 0.5,
        "slo": "p99 e2e <= 2 s",
        "window_s": 5.0,
        "window_seed": 0,
    }
    assert first.slug == "packed-n2-dup1-cold-rate0.5"
    assert first.cell_id != second.cell_id


def test_expand_concurrency() -> None:
    """A closed loop has no arrivals of its own."""
    (one,) = _cells(online={"concurrency": 8})
    assert (one.load.concurrency, one.load.arrivals) == (8, None)
    assert one.slug.endswith("-conc8")


def test_expand_max_rate() -> None:
    """A search begins at its rate."""
    (one,) = _cells(online={"max_rate": 4, "slo": "p99 e2e <= 500 ms"})
    assert (one.load.max_rate, one.load.rate) == (4.0, None)
    assert one.slug.endswith("-max")


def test_expand_variant() -> None:
    """A search may stand beside a sweep of rates, on the same server."""
    found = read.parse(
        {
            **BASE,
            "mode": "online",
            "online": {"rate": [1.0, 2.0], "slo": "p99 e2e <= 500 ms"},
            "measure": {"isolation": "engine"},
            "variant": [{"online": {"rate": [], "max_rate": 4.0, "search_s": 99.0}}],
        },
        where="f.toml",
    )
    made = expansion.expand(found, REVIEWS, model_fingerprint="w", max_model_len=100)
    assert [each.slug.rpartition("-")[2] for each in made] == ["rate1", "rate2", "max"]
    assert made[2].load.longest_search_s == 99.0
    assert len({each.engine_key for each in made}) == 1


@pytest.mark.parametrize(
    ("tables", "share"),
    [
        ({"grid": {"n": [1, 2]}}, True),
        ({"engine": {"max_num_seqs": [8, 16]}}, False),
        ({"measure": {"replicates": 2}}, False),  # another server is what it is for
        ({"grid": {"answer": ["free", "choice"]}}, False),  # a simulated server is not told
    ],
)
def test_engine_key(tables: dict[str, Any], share: bool) -> None:  # noqa: FBT001  (a case)
    """Cells share a server that answers all of them alike."""
    first, second = _cells(online={"rate": 1.0}, **tables)
    assert (first.engine_key == second.engine_key) == share


def test_cell_id_seed() -> None:
    """All that changes a window is part of the cell; the engine's seed is another."""
    ids = {
        _cells(online={"rate": 1.0, **more})[0].cell_id
        for more in ({}, {"seed": 1}, {"window_s": 9.0}, {"arrivals": "constant"})
    }
    assert len(ids) == 4


def test_cell_id_key() -> None:
    """Where the key comes from changes nothing that is measured."""
    ids = {
        _cells(online={"rate": 1.0, "url": "http://h:1", **more}, engine={"kind": "external"})[
            0
        ].cell_id
        for more in ({}, {"api_key_env": "KEY"})
    }
    assert len(ids) == 1


def test_cell_id_offline() -> None:
    """A cell that is offline has the id that it had before there was a choice."""
    (one,) = _cells("offline")
    assert (one.mode, one.online) == ("offline", "{}")
    assert one.cell_id == "packed-n2-dup1-cold-" + OFFLINE_HASH


# As it was before there were these columns.
OFFLINE_HASH = "2900a21387b0"
