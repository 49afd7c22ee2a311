"""Fixtures that every folder of tests may ask for. Real servers live in `tests/servers`; nothing starts at import."""

from servers.s3_server import s3_bucket, s3_environment, s3_proxied, s3_remote, s3_server

__all__ = ["s3_bucket", "s3_environment", "s3_proxied", "s3_remote", "s3_server"]
