"""The answer to the beginning of an upload got lost: the store may hold an upload whose id nobody knows."""

import pytest

from backends.base import PendingUpload
from backends.errors import CredentialsRefused, Unavailable
from ckptd.transfer import calls, requests


class Store:
    def __init__(self, error):
        self.error = error
        self.aborted = []

    def begin(self, key, size):
        raise self.error

    def pending(self, prefix):
        return iter([PendingUpload(prefix, "lost", 0.0), PendingUpload(f"{prefix}2", "another's", 0.0)])

    def abort(self, key, upload_id):
        self.aborted.append(upload_id)


@pytest.mark.parametrize(("error", "aborted"), [(Unavailable("reset"), ["lost"]), (CredentialsRefused("no"), [])])
def test_only_an_upload_that_may_have_been_begun_unheard_is_freed(error, aborted):
    store = Store(error)
    with pytest.raises(type(error)):
        requests._begin(store, calls.Begin(None, "model.bin", 1))
    assert store.aborted == aborted
