"""The small process that outlives crashes: it holds the lock and the socket, and restarts the worker."""
