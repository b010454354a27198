"""What goes out: the shapes that several resources share, for the OpenAPI document.

Answers are written as bytes and not validated again while serving; tests hold every answer against these.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Output(BaseModel):
    """An answer's shape: every field is always there, and no other."""

    model_config = ConfigDict(extra="forbid", strict=True)


Timestamp = Annotated[
    str,
    Field(
        description="RFC 3339, UTC, six digits",
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$",
        json_schema_extra={"format": "date-time"},
    ),
]

_ID = "[0-9A-HJKMNP-TV-Z]{26}$"

ProjectRef = Annotated[str, Field(pattern=f"^proj_{_ID}")]
KeyRef = Annotated[str, Field(pattern=f"^key_{_ID}")]
EntryRef = Annotated[str, Field(pattern=f"^aud_{_ID}")]
CalendarRef = Annotated[str, Field(pattern=f"^cal_{_ID}")]
EventRef = Annotated[str, Field(pattern=f"^evt_{_ID}")]
OAuthAppRef = Annotated[str, Field(pattern=f"^oapp_{_ID}")]
OAuthAppSecretRef = Annotated[str, Field(pattern=f"^oas_{_ID}")]
EndpointRef = Annotated[str, Field(pattern=f"^ep_{_ID}")]
MessageRef = Annotated[str, Field(pattern=f"^msg_{_ID}")]
DeliveryRef = Annotated[str, Field(pattern=f"^dlv_{_ID}")]
BotRef = Annotated[str, Field(pattern=f"^bot_{_ID}")]
LauncherRef = Annotated[str, Field(pattern=f"^lch_{_ID}")]
RuleRef = Annotated[str, Field(pattern=f"^rule_{_ID}")]
ReplayRef = Annotated[str, Field(pattern=f"^rpl_{_ID}")]
ConnectLinkRef = Annotated[str, Field(pattern=f"^lnk_{_ID}")]

NextUrl = Annotated[str | None, Field(description="Address of the next page; null at the end")]
PreviousUrl = Annotated[str | None, Field(description="Address of the page before; null at the start")]
