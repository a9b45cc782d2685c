"""What is written to a file as it is and read back checked."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Record(BaseModel):
    """Frozen fields; unknown ones are refused.

    What was written when images were called pictures is read as it is written now.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _called_images(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            now if (now := key.replace("picture", "image")) in cls.model_fields else key: item
            for key, item in value.items()
        }
