"""What a committed checkpoint is, in the remote: the commit point and everything needed to bring it back verified."""

from ckptd.manifest.format import FORMAT_VERSION, Manifest, ManifestEntry, manifest_key, manifest_prefix
from ckptd.manifest.store import ManifestStore

__all__ = ["FORMAT_VERSION", "Manifest", "ManifestEntry", "ManifestStore", "manifest_key", "manifest_prefix"]
