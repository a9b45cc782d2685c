"""What is written to a file as it is and read back checked."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Frozen fields; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
