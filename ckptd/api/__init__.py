"""HTTP over a Unix socket: thin, typed, documented, authorised by peer credentials.

`node.Node` is all it knows of the engine; `routes.ROUTES` is the one table of what it answers.
"""
