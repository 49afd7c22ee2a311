"""How long a file says it is: HDF5, tar, pickles, TensorFlow's index, parts of torch's distributed checkpoints, OCDBT.

What a look cannot tell, whatever it does: a GGUF or msgpack file must be read in whole, OCDBT's data files and TensorFlow's data
shards have neither beginning nor end of their own, and a legacy torch.save ends with bare numbers of unknown width.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable

Read = Callable[[int, int], bytes]

_SHORT = "cut short"

_HDF5 = b"\x89HDF\r\n\x1a\n"
_UNDEFINED = 2**64 - 1


def hdf5_defect(size: int, read: Read) -> str | None:
    """The superblock has the address of the file's end (HDF5 File Format Specification 3.0, II.A).

    It stands at 0 or, behind a user block, at 512, 1024, 2048, …; the address counts from the file's beginning. The library
    itself refuses what is shorter ("truncated file"); longer files are whole.
    """
    at = 0
    while read(at, 8) != _HDF5:
        at = at * 2 or 512
        if at >= size or at > 1 << 20:
            return f"{_SHORT}, or no HDF5 file: it does not begin like one"
    header = read(at, 64)
    if len(header) < 48:
        return f"{_SHORT}: {size:,} bytes are less than a header"
    version = header[8]
    width, first = (header[13], 28 if version == 1 else 24) if version < 2 else (header[9], 12)
    if width != 8 or version > 3:
        return None
    base, _, end = struct.unpack_from("<QQQ", header, first)
    if end == _UNDEFINED:
        return f"{_SHORT}: its writer has not closed it"
    promised = (
        end - base + at
    )  # the base is where the superblock was written, unless a user block was put before it later
    if promised > size:
        return f"{_SHORT}: header promises {promised:,} bytes, file has {size:,}"
    return None


_BLOCK = 512
_HEADERS = 10_000
"""Members of a tar that are walked through; of more only the end is looked at."""


def tar_defect(size: int, read: Read) -> str | None:
    """Headers of 512 bytes, each followed by its member, and two blocks of zeros at the end (POSIX.1-1988, pax).

    What is compressed as a whole is not looked into.
    """
    at = 0
    for _ in range(_HEADERS):
        header = read(at, _BLOCK)
        if at == 0 and header[257:262] != b"ustar"[: max(0, len(header) - 257)]:
            return None  # compressed, or of a time before POSIX
        if len(header) < _BLOCK:
            return f"{_SHORT}: its end is missing"
        if not any(header):
            whole = len(read(at + _BLOCK, _BLOCK)) == _BLOCK
            return None if whole else f"{_SHORT}: its end is missing"
        length = _octal(header[124:136])
        if header[257:262] != b"ustar" or length is None:
            return f"its member at byte {at:,} cannot be read"
        at += _BLOCK + -(-length // _BLOCK) * _BLOCK
        if at > size:
            return f"{_SHORT}: a member ends at byte {at:,}, file has {size:,}"
    return None if size >= 1024 and not any(read(size - 1024, 1024)) else f"{_SHORT}: its end is missing"


def _octal(field: bytes) -> int | None:
    if field[0] & 0x80:  # GNU and pax: large numbers in base 256
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return None


_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_WALKED = 64 * 1024


def pickle_defect(size: int, read: Read) -> str | None:
    """A pickle ends with STOP, "."; a small one is walked through (never loaded), of a large one the last byte counts.

    Not for what torch.save wrote before 2020: numbers follow its pickles, and nothing says how many.
    """
    start = read(0, len(_LEGACY_TORCH))
    if start == _LEGACY_TORCH or start[:1] != b"\x80":
        return None
    if read(size - 1, 1) != b".":
        return f"{_SHORT}: the pickle's end is missing"
    if size > _WALKED:
        return None
    try:
        for _ in pickletools.genops(read(0, size)):
            pass
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError, struct.error):
        return f"{_SHORT}: the pickle's end is missing"
    return None


_TABLE_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48


def tensorflow_index_defect(size: int, read: Read) -> str | None:
    """A LevelDB table: its footer of 48 bytes ends with a magic number (tensorflow/core/lib/io/table_format.txt)."""
    if size < _FOOTER or read(size - 8, 8) != _TABLE_MAGIC:
        return f"{_SHORT}: the table's footer is missing"
    return None


def is_tensorflow_index(start: bytes) -> bool:
    """Whether these first bytes are those of a bundle's index: an entry whose key is empty, and a BundleHeaderProto."""
    return start[:2] == b"\0\0" and start[3:4] in {b"", b"\x08"} if len(start) > 1 else start == b"\0"


def shards_of_tensorflow_index(start: bytes) -> int | None:
    """`num_shards` of the BundleHeaderProto, which is the first entry (tensor_bundle.proto)."""
    if not is_tensorflow_index(start) or len(start) < 5:
        return None
    count = shift = 0
    for byte in start[4:9]:
        count |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return count
    return None


_END = b"PK\x05\x06"
_END_SIZE = 22
_END64 = b"PK\x06\x06"


def distcp_defect(size: int, read: Read) -> str | None:
    """One torch.save after the other, each a zip: the last one's directory ends where the file does.

    A cut between two of them cannot be seen here. Other formats (compressed, safetensors) are not looked into.
    """
    start = read(0, 4)
    if start != b"PK\x03\x04"[: len(start)]:
        return None
    end_at = size - _END_SIZE
    tail = read(end_at, _END_SIZE) if end_at >= 0 else b""
    if tail[:4] != _END:
        return f"{_SHORT}: the zip directory at its end is missing"
    entries, length = struct.unpack_from("<10xHI", tail)
    directory_end = end_at
    if entries == 0xFFFF or length == 0xFFFFFFFF or read(end_at - 20, 4) == b"PK\x06\x07":
        record = read(max(0, end_at - 20 - 56), 56)
        if record[:4] != _END64:
            return "its zip64 directory is not where it says"
        (length,) = struct.unpack_from("<40xQ", record)
        directory_end = end_at - 20 - 56
    if length > directory_end or (length and read(directory_end - length, 4) != b"PK\x01\x02"):
        return "its zip directory is not where it says"
    return None


_OCDBT_MANIFEST = bytes.fromhex("0cdb3a2a")


def ocdbt_manifest_defect(size: int, read: Read) -> str | None:
    """Four bytes of magic and the file's own length (tensorstore/kvstore/ocdbt/format/codec_util.cc)."""
    start = read(0, 12)
    if start[:4] != _OCDBT_MANIFEST[: len(start)]:
        return "is no OCDBT manifest"
    if len(start) < 12:
        return f"{_SHORT}: {size:,} bytes are less than a header"
    (length,) = struct.unpack_from("<Q", start, 4)
    if length > size:
        return f"{_SHORT}: header promises {length:,} bytes, file has {size:,}"
    return f"has {size - length:,} bytes too many" if length < size else None
