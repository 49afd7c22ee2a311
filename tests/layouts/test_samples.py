"""Files that the real libraries wrote (samples/, make_samples.py), cut at every length."""

from __future__ import annotations

import io
import pickle
import pickletools
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptd.layouts.inspect import defect_of, required_by, requirements_of

SAMPLES = Path(__file__).parent / "samples"


def defect(name: str, content: bytes) -> str | None:
    return defect_of(name, len(content), lambda offset, length: content[offset : offset + length])


def tarred(format: int, *, empty: bool = False) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for name, content in {"model_config.yaml": b"a: 1\n" * 30, "model_weights.ckpt": bytes(3000)}.items():
            member = tarfile.TarInfo(f"./{name}" if not empty else f"./{'very/' * 60}{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def shards_of(file: str) -> bytes:
    return (SAMPLES / file).read_bytes()


WHOLE = {
    "model.pt": shards_of("model.pt"),
    "random_states_0.pkl": shards_of("model.pt"),
    "earliest.weights.h5": shards_of("earliest.weights.h5"),
    "latest.weights.h5": shards_of("latest.weights.h5"),
    "userblock.h5": shards_of("userblock.h5"),
    "ckpt-1.index": shards_of("ckpt-1.index"),
    "manifest.ocdbt": shards_of("manifest.ocdbt"),
    ".metadata": shards_of("dcp/.metadata"),
    "__0_0.distcp": shards_of("dcp/__0_0.distcp"),
    "gnu.nemo": tarred(tarfile.GNU_FORMAT),
    "pax.tar": tarred(tarfile.PAX_FORMAT, empty=True),
    "state.pkl": pickle.dumps({"step": 7, "names": [f"layer.{n}" for n in range(50)]}),
    "old.pickle": pickle.dumps({"step": 7, "losses": [0.5] * 50}, protocol=2),
}

EMPTY_MAY_BE = {"ckpt-1.index", "pax.tar"}
"""Whose empty file is no defect: other things bear such names, too."""


def undetected(name: str) -> list[int]:
    return [length for length in range(1, len(WHOLE[name])) if defect(name, WHOLE[name][:length]) is None]


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_have_no_defect(name: str) -> None:
    assert defect(name, WHOLE[name]) is None
    assert (defect(name, b"") is None) == (name in EMPTY_MAY_BE)


@pytest.mark.parametrize("name", sorted(WHOLE.keys() - {"__0_0.distcp", "gnu.nemo", "pax.tar"}))
def test_a_cut_at_any_length_is_found(name: str) -> None:
    assert undetected(name) == []


def test_a_cut_between_two_tensors_of_a_distributed_checkpoint_cannot_be_seen_in_its_part() -> None:
    content = WHOLE["__0_0.distcp"]
    begins = (at for at in range(22, len(content)) if content[at : at + 4] == b"PK\x03\x04")
    between = [at for at in begins if content[at - 22 : at - 18] == b"PK\x05\x06"]
    assert undetected("__0_0.distcp") == between != []


@pytest.mark.parametrize("name", ["gnu.nemo", "pax.tar"])
def test_of_a_tar_only_a_cut_in_its_first_header_or_its_padding_is_not_found(name: str) -> None:
    content = WHOLE[name]
    needed = len(content.rstrip(b"\0"))
    end = next(at for at in range(0, len(content), 512) if at >= needed and not any(content[at : at + 1024]))
    first = range(1, 258)  # too short to tell a tar from something else
    found = undetected(name)
    assert [length for length in found if 257 < length < end + 1024] == []
    assert set(found) <= {*first, *range(end + 1024, len(content))}


def test_a_legacy_torch_file_does_not_say_how_long_it_is() -> None:
    content = shards_of("legacy.pt")
    assert defect("legacy.pt", content) is None
    assert defect("legacy.pt", content[:-10]) is None


@pytest.mark.parametrize("name", ["faiss.index", "notes.metadata", "x.bin", "archive.tar", "data.distcp"])
def test_other_files_of_such_names_are_left_alone(name: str) -> None:
    assert defect(name, b"IxF2 something else altogether, of another program" * 20) is None


@settings(max_examples=300)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_flipped_bytes_do_no_harm(name: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    defect(name, bytes(content))
    required_by(name, bytes(content))


NAMES = [
    "x.h5",
    "x.nemo",
    "x.tar",
    "ckpt-1.index",
    "manifest.ocdbt",
    ".metadata",
    "x.distcp",
    "x.pkl",
    "_CHECKPOINT_METADATA",
]


@given(
    st.sampled_from(NAMES),
    st.sampled_from([b"", b"\x80\x04", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"]),
    st.binary(max_size=600),
)
def test_any_bytes_can_be_looked_at(name: str, start: bytes, content: bytes) -> None:
    defect(name, start + content)
    required_by(name, start + content)


# -- what an index names


@pytest.mark.parametrize(
    ("file", "ranks"), [("zero_of_four.pt", [1, 2, 3]), ("zero_of_300.pt", list(range(1, 300))), ("model.pt", [])]
)
def test_the_first_ranks_optimizer_states_say_how_many_ranks_there_are(file: str, ranks: list[int]) -> None:
    content = shards_of(file)
    names = {f"bf16_zero_pp_rank_{rank}_mp_rank_01_optim_states.pt" for rank in ranks}
    assert required_by("bf16_zero_pp_rank_0_mp_rank_01_optim_states.pt", content) == names
    assert required_by("bf16_zero_pp_rank_1_mp_rank_01_optim_states.pt", content) == frozenset()


def test_a_real_metadata_file_names_its_parts() -> None:
    assert required_by(".metadata", WHOLE[".metadata"]) == {"__0_0.distcp"}


def test_a_real_tensorflow_index_names_its_shards() -> None:
    content = WHOLE["ckpt-1.index"]
    found = requirements_of("ckpt-1.index", len(content), lambda offset, length: content[offset : offset + length])
    assert found == {"ckpt-1.data-00000-of-00001"}
    many = content[:4] + b"\x90\x4e" + content[5:]
    assert len(required_by("ckpt-1.index", many)) == 10_000


@settings(max_examples=200)
@given(
    st.lists(st.from_regex(r"(?:[a-zA-Z_]{1,30}/)?__[0-9]{1,5}_[0-9]{1,3}\.distcp", fullmatch=True), max_size=20),
    st.sampled_from([2, 3, 4, 5]),
)
def test_the_search_finds_what_a_walk_through_the_opcodes_finds(parts: list[str], protocol: int) -> None:
    content = pickle.dumps(
        {"storage": {f"w.{n}": (part, n, 8) for n, part in enumerate(parts)}, "x": ".distc"}, protocol
    )
    walked = {text for _, text, _ in pickletools.genops(content) if isinstance(text, str) and text.endswith(".distcp")}
    assert required_by(".metadata", content) == walked == set(parts)


@pytest.mark.parametrize("name", ["../x.distcp", "/etc/x.distcp", "a/../../x.distcp", "./x.distcp", "a//x.distcp"])
def test_names_that_lead_elsewhere_are_ignored(name: str) -> None:
    assert required_by(".metadata", pickle.dumps([name, "ok.distcp"])) == {"ok.distcp"}


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "done",)  # type: ignore[return-value]

    required_by(".metadata", pickle.dumps([Evil(), "__0_0.distcp"]))
    defect(".metadata", pickle.dumps([Evil(), "__0_0.distcp"]))
    assert list(tmp_path.iterdir()) == []


def test_orbax_is_not_committed_before_it_says_when() -> None:
    assert (
        defect("_CHECKPOINT_METADATA", b'{"init_timestamp_nsecs": 5, "commit_timestamp_nsecs": null}')
        == "has no commit time yet"
    )
    assert defect("_CHECKPOINT_METADATA", b'{"init_timestamp_nsecs": 5, "commit_timestamp_nsecs": 6}') is None
    assert defect("_CHECKPOINT_METADATA", b"{}") is None
