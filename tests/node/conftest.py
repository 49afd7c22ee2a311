from tests_node_fixtures import daemon, new_daemon

__all__ = ["daemon", "new_daemon"]
