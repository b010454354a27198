"""The passcode that an invitation writes beside its link: "(Password: 123456)", "Passcode: aB3". Pure and bounded."""

import re

_REACH = 600
"""Characters behind a link that are looked at."""

_TAG = re.compile(r"<[^<>]{0,400}>")
# As Zoom, Webex and Teams write it in the languages that most invitations have; a colon may be a wide one.
_LABEL = re.compile(
    r"(?:passcode|password|passwort|kenncode|kennwort|code secret|mot de passe|contraseña|código de acceso|senha|"
    r"wachtwoord|hasło|密码|パスコード|パスワード)[ \t]{0,3}[:\uff1a]\s{0,5}"
    r"(?P<value>[^\s<>()\[\]\"'\u201c\u201d\uff0c\u3002;]{1,64})",
    re.IGNORECASE,
)


def beside(text: str, end: int) -> str | None:
    """The passcode behind a link that ends at `end`, before the next link; None where none is written there."""
    near = text[end : end + _REACH]
    near = _TAG.sub(" ", near).partition("://")[0]
    found = _LABEL.search(near)
    return (found["value"].rstrip(".,") or None) if found else None
