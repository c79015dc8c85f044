"""What all settings have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Refuses unknown names; frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)
