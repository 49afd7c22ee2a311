"""Moves files between tiers and stores in parts: parallel, resumable, checksummed, paced.

The worker holds `transfers.Transfers`; the bytes are moved by mover processes (`mover`), the only ones that load a
store's client library. What crosses between them is the description of a part (`calls`), never its bytes.
"""
