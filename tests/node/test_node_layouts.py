"""What frameworks write, before a real daemon: indexes that name files, and files that are cut short."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests_node_daemon import MIB, Daemon, save

SAMPLES = Path(__file__).parents[1] / "layouts" / "samples"


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def test_a_distributed_checkpoint_lacks_what_its_metadata_names(daemon: Daemon) -> None:
    directory = daemon.volume / "run-1" / "step-5"
    save(directory, {"other.bin": b"x" * MIB, ".metadata.tmp": sample("dcp/.metadata")})
    (directory / ".metadata.tmp").rename(directory / ".metadata")
    daemon.until(
        lambda: "__0_0.distcp" in (daemon.checkpoint("run-1", 5) or {"reason": ""})["reason"], "it says what it lacks"
    )
    daemon.ctl("latest", "run-1", check=4)
    save(directory, {"__0_0.distcp": sample("dcp/__0_0.distcp"), ".metadata": sample("dcp/.metadata")})
    assert daemon.committed("run-1", 5)["framework"] == "torch-dcp"


def test_an_index_names_its_shards(daemon: Daemon) -> None:
    directory = daemon.volume / "run-1" / "checkpoint-7"
    index = {"metadata": {}, "weight_map": {"a": "first.bin", "b": "second.bin", "c": "../../escape.bin"}}
    save(directory, {"first.bin": b"a" * MIB, "model.bin.index.json": json.dumps(index).encode()})
    assert "lacks second.bin, which model.bin.index.json names" in daemon.state_is("run-1", 7, "torn")["reason"]
    save(directory, {"second.bin": b"b" * MIB})
    daemon.committed("run-1", 7)


def test_a_file_that_is_closed_but_cut_short_makes_it_torn(daemon: Daemon) -> None:
    files = {"torch": ("model-7.pt", "model.pt"), "keras": ("cp-7.weights.h5", "latest.weights.h5")}
    for run, (name, file) in files.items():
        save(daemon.volume / run, {name: sample(file)[:-100]})
    for run in files:
        assert "cut short" in daemon.state_is(run, 7, "torn")["reason"]
        daemon.ctl("latest", run, check=4)
    for run, (name, file) in files.items():
        save(daemon.volume / run, {name: sample(file)})
    for run in files:
        assert daemon.committed(run, 7)["framework"] == run


def test_a_pattern_of_the_configuration_says_what_a_checkpoint_is(new_daemon: Callable[..., Daemon]) -> None:
    daemon = new_daemon()
    text = daemon.config.read_text()
    daemon.config.write_text(
        text + '\n[[layouts]]\nname = "snap"\npattern = "snaps/s{step}x/**"\nmarker = "ok.txt"\nrequires = ["*.dat"]\n'
    )
    daemon.start()
    directory = daemon.volume / "run-1" / "snaps" / "s12x"
    save(directory, {"a.dat": b"a" * MIB})
    assert "lacks ok.txt" in daemon.state_is("run-1", 12, "torn")["reason"]
    save(directory, {"ok.txt": b""})
    found = daemon.committed("run-1", 12)
    assert (found["framework"], found["path"]) == ("snap", str(directory))
    shown = daemon.ctl("config", "show", "--config", str(daemon.config)).stdout
    assert "layouts[0].pattern" in shown
