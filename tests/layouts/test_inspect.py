"""Files that are cut short are recognised by their own structure."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptd.layouts.inspect import defect_of, required_by


def defect(name: str, content: bytes) -> str | None:
    return defect_of(name, len(content), lambda offset, length: content[offset : offset + length])


ARRAYS = {"w": np.arange(300, dtype=np.float32), "b": np.ones((3, 5), dtype=np.float16)}


def npz(*, compressed: bool = False) -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, **ARRAYS)
    return out.getvalue()


def npy(array: np.ndarray) -> bytes:  # type: ignore[type-arg]
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def torch_like() -> bytes:
    """What torch.save writes: a stored zip, with zip64 records where it is large."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            member.write(bytes(2000))
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def zip64_directory() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(3):
            archive.writestr(str(number), b"x")
    plain = out.getvalue()
    end = plain.rindex(b"PK\x05\x06")
    start = int.from_bytes(plain[end + 16 : end + 20], "little")
    record = (
        b"PK\x06\x06" + (44).to_bytes(8, "little") + bytes([45, 0, 45, 0]) + bytes(8)
        + (3).to_bytes(8, "little") * 2 + (end - start).to_bytes(8, "little") + start.to_bytes(8, "little")
    )  # fmt: skip
    locator = b"PK\x06\x07" + bytes(4) + end.to_bytes(8, "little") + (1).to_bytes(4, "little")
    last = b"PK\x05\x06" + bytes(4) + b"\xff\xff" * 2 + b"\xff\xff\xff\xff" * 2 + bytes(2)
    return plain[:end] + record + locator + last


WHOLE = {
    "model.safetensors": safetensors.numpy.save(ARRAYS),
    "noted.safetensors": safetensors.numpy.save(ARRAYS, metadata={"format": "np"}),
    "arrays.npz": npz(),
    "packed.npz": npz(compressed=True),
    "array.npy": npy(ARRAYS["w"]),
    "matrix.npy": npy(ARRAYS["b"]),
    "text.npy": npy(np.array(["ab", "cde"])),
    "scalar.npy": npy(np.array(3.5)),
    "model.pt": torch_like(),
    "model.ckpt": torch_like(),
    "big.pth": zip64_directory(),
    "trainer_state.json": json.dumps({"step": 3, "log": [1.5, float("nan")]}).encode(),
    "large.json": json.dumps(list(range(100_000))).encode(),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_have_no_defect(name: str) -> None:
    assert defect(name, WHOLE[name]) is None


@settings(max_examples=300)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_a_file_that_is_cut_anywhere_has_a_defect(name: str, data: st.DataObject) -> None:
    whole = WHOLE[name]
    kept = data.draw(st.integers(4 if name.endswith((".pt", ".pth", ".ckpt")) else 0, len(whole) - 1))
    assert defect(name, whole[:kept]) is not None


@settings(max_examples=100)
@given(
    st.sampled_from(["model.safetensors", "array.npy", "arrays.npz", "model.pt"]), st.binary(min_size=1, max_size=40)
)
def test_a_file_with_something_behind_its_end_has_a_defect(name: str, more: bytes) -> None:
    assert defect(name, WHOLE[name] + more) is not None


@given(st.sampled_from(["x.safetensors", "x.npy", "x.npz", "x.json", "x.pt", "x.keras"]), st.binary(max_size=300))
def test_any_bytes_can_be_looked_at(name: str, content: bytes) -> None:
    defect(name, content)


@settings(max_examples=200)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_flipped_bytes_do_no_harm(name: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[name])
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    defect(name, bytes(content))


def test_the_message_says_what_was_promised() -> None:
    whole = WHOLE["model.safetensors"]
    short = defect("model.safetensors", whole[:-200])
    assert short == f"cut short: header promises {len(whole):,} bytes, file has {len(whole) - 200:,}"


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.npz", "a.npy", "a.json", "a.ckpt"])
def test_an_empty_file_of_a_format_that_is_never_empty_has_a_defect(name: str) -> None:
    assert defect(name, b"") == "empty"


@pytest.mark.parametrize("name", ["notes.txt", "DONE", "weights.raw", "m.bin"])
def test_nothing_is_said_about_other_files(name: str) -> None:
    assert defect(name, b"\x80\x02 a pickle of old, or whatever") is None


def test_a_directory_in_zip64_is_followed() -> None:
    with zipfile.ZipFile(io.BytesIO(WHOLE["big.pth"])) as archive:
        assert archive.namelist() == ["0", "1", "2"]  # the file made by hand is a real one


def test_an_object_array_has_no_length_to_compare() -> None:
    assert defect("x.npy", npy(np.array([{"a": 1}], dtype=object))) is None


def test_an_index_requires_its_shards() -> None:
    index = json.dumps({"metadata": {}, "weight_map": {"a": "m-1.safetensors", "b": "m-1.safetensors", "c": "m-2.bin"}})
    assert required_by("m.safetensors.index.json", index.encode()) == {"m-1.safetensors", "m-2.bin"}
    for other in (b"[]", b"{", b'{"weight_map": 3}'):
        assert required_by("m.safetensors.index.json", other) == frozenset()
    assert required_by("config.json", index.encode()) == frozenset()
