"""Exact comparison of two servers: every key, both ways, type, value and expiry (SPEC 6)."""

from workers.verify.run import verify

__all__ = ["verify"]
