"""What an `oss://` remote asks the store to do with objects besides keeping them: class, tags, encryption, and who pays.

    storage_class     Standard | IA: of the checkpoints' files; not of `.ckptd/`, whose small objects are read often.
                      Default: the bucket's
    tags              of the same files, for life-cycle and cost rules: "team=ml,kind=checkpoint". A rule may move them, not
                      delete them: a manifest goes before its files (`keep_remote` does it in that order)
    sse               AES256 | KMS | SM4: how the store encrypts, `.ckptd/` included. Default: the bucket's rule
    kms_key_id        key for KMS
    requester_pays    true: the requester pays, not the bucket's owner

`AttributedBucket` adds them to whatever request begins an object, so that no call of ours can leave one out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import oss2

from .errors import BadConfiguration
from .option_texts import one_of, tagging

NAMES = ("storage_class", "tags", "sse", "kms_key_id", "requester_pays")
_CLASSES = ("Standard", "IA")
_ARCHIVES = ("Archive", "ColdArchive", "DeepColdArchive")
_ENCRYPTIONS = ("AES256", "KMS", "SM4")
_OURS = ".ckptd/"


@dataclass(frozen=True, slots=True)
class OssAttributes:
    prefix: str
    """The remote's: empty, or ends with a slash."""
    of_files: Mapping[str, str]
    """Headers of requests that begin one of the checkpoints' files."""
    of_objects: Mapping[str, str]
    """Of requests that begin any object."""
    of_all: Mapping[str, str]
    """Of any request."""

    @classmethod
    def parse(cls, prefix: str, options: Mapping[str, str]) -> Self:
        """Raises BadConfiguration."""
        of_files: dict[str, str] = {}
        of_objects: dict[str, str] = {}
        if name := options.get("storage_class"):
            if name in _ARCHIVES:
                raise BadConfiguration(
                    f"storage_class = '{name}'", hint="an archived checkpoint cannot be read when a job starts again"
                )
            of_files["x-oss-storage-class"] = one_of(_CLASSES, "storage_class", name)
        if text := options.get("tags"):
            of_files["x-oss-tagging"] = tagging(text)
        sse = options.get("sse")
        if sse:
            of_objects["x-oss-server-side-encryption"] = one_of(_ENCRYPTIONS, "sse", sse)
        if key := options.get("kms_key_id"):
            if sse != "KMS":
                raise BadConfiguration("kms_key_id is set without sse", hint='sse = "KMS"')
            of_objects["x-oss-server-side-encryption-key-id"] = key
        pays = one_of(("true", "false"), "requester_pays", options.get("requester_pays", "false"))
        return cls(prefix, of_files, of_objects, {"x-oss-request-payer": "requester"} if pays == "true" else {})

    def headers(self, method: str, name: str, params: Mapping[str, str]) -> dict[str, str]:
        """For a request of OSS's: an object begins with a PUT of its own, or a POST that starts an upload in parts."""
        begins = (method == "PUT" and "uploadId" not in params) or (method == "POST" and "uploads" in params)
        found = dict(self.of_all)
        if name and begins:
            found |= self.of_objects
            if not name.startswith(self.prefix + _OURS):
                found |= self.of_files
        return found


class AttributedBucket(oss2.Bucket):  # type: ignore[misc]  # oss2 has no types
    """Each request of oss2's goes through `_do`, before it is signed."""

    attributes: OssAttributes

    def _do(self, method: str, bucket_name: str, key: str, **rest: Any) -> Any:
        rest["headers"] = oss2.CaseInsensitiveDict(rest.get("headers") or {})
        rest["headers"].update(self.attributes.headers(method, key, rest.get("params") or {}))
        return super()._do(method, bucket_name, key, **rest)
