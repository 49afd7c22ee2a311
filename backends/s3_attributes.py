"""What an `s3://` remote asks the store to do with objects besides keeping them: class, tags, encryption, and who pays.

    storage_class     of the checkpoints' files, e.g. STANDARD_IA, INTELLIGENT_TIERING; not of `.ckptd/`, whose small objects are
                      read often. Default: the bucket's
    tags              of the same files, for life-cycle and cost rules: "team=ml,kind=checkpoint". A rule may move them, not
                      delete them: a manifest goes before its files (`keep_remote` does it in that order)
    sse               AES256 | aws:kms | aws:kms:dsse: how the store encrypts, `.ckptd/` included. Default: the bucket's rule
    kms_key_id        key for aws:kms, by id or ARN
    requester_pays    true: the requester pays, not the bucket's owner

One handler of botocore's adds them to whatever request knows them (its service model says which do), so that no call of ours
can leave one out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from .errors import BadConfiguration
from .option_texts import one_of, tagging

NAMES = ("storage_class", "tags", "sse", "kms_key_id", "requester_pays")
_ENCRYPTIONS = ("AES256", "aws:kms", "aws:kms:dsse")
_ARCHIVES = ("GLACIER", "DEEP_ARCHIVE")
_OURS = ".ckptd/"


@dataclass(frozen=True, slots=True)
class S3Attributes:
    prefix: str
    """The remote's: empty, or ends with a slash."""
    of_files: Mapping[str, str]
    """Arguments for the checkpoints' files."""
    of_all: Mapping[str, str]

    @classmethod
    def parse(cls, prefix: str, options: Mapping[str, str]) -> Self:
        """Raises BadConfiguration."""
        of_files: dict[str, str] = {}
        of_all: dict[str, str] = {}
        if name := options.get("storage_class"):
            if name in _ARCHIVES:
                raise BadConfiguration(
                    f"storage_class = '{name}'", hint="an archived checkpoint cannot be read when a job starts again"
                )
            of_files["StorageClass"] = name
        if text := options.get("tags"):
            of_files["Tagging"] = tagging(text)
        sse = options.get("sse")
        if sse is not None:
            of_all["ServerSideEncryption"] = one_of(_ENCRYPTIONS, "sse", sse)
        if key := options.get("kms_key_id"):
            if sse not in _ENCRYPTIONS[1:]:
                raise BadConfiguration("kms_key_id is set without sse", hint='sse = "aws:kms"')
            of_all["SSEKMSKeyId"] = key
        if one_of(("true", "false"), "requester_pays", options.get("requester_pays", "false")) == "true":
            of_all["RequestPayer"] = "requester"
        return cls(prefix, of_files, of_all)

    def attach(self, client: Any) -> None:
        """To every request that `client` makes from now on."""
        if self.of_files or self.of_all:
            client.meta.events.register("provide-client-params.s3", self._add)

    def _add(self, params: dict[str, Any], model: Any, **_: object) -> dict[str, Any]:
        ours = str(params.get("Key", "")).startswith(self.prefix + _OURS)
        more = self.of_all if ours else {**self.of_files, **self.of_all}
        known = model.input_shape.members
        return params | {name: value for name, value in more.items() if name in known and name not in params}
