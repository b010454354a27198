"""Configuration: read once from the environment, refused where it would be unsafe in production."""

import base64
import binascii
import ipaddress
from functools import cached_property
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DEVELOPMENT_KEY = "dev:" + base64.b64encode(b"punctual-development-key-not-4-u").decode()
"""Seals development data only; production refuses to start with it."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Settings(BaseSettings):
    """Every setting of `serve` and `work`. Times are seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True, hide_input_in_errors=True)

    environment: Literal["development", "test", "production"] = "development"
    database_url: str
    redis_url: str
    public_url: str | None = None
    """Base of the addresses that providers push to; without it calendars are polled."""
    punctual_secret_keys: SecretStr = SecretStr(DEVELOPMENT_KEY)
    """Comma-separated `id:base64 of 32 bytes`; the first seals, all open."""

    google_api_url: str = "https://www.googleapis.com"
    google_token_url: str = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address, not a secret
    google_authorize_url: str = "https://accounts.google.com/o/oauth2/v2/auth"
    microsoft_graph_url: str = "https://graph.microsoft.com"
    microsoft_login_url: str = "https://login.microsoftonline.com"
    microsoft_tenant: str = Field(default="common", pattern=r"^[A-Za-z0-9.-]{1,253}$")
    """Whose accounts may connect: `common` (all), `organizations`, `consumers`, or one tenant's id or domain."""

    sync_quiet_seconds: float = Field(default=1.0, ge=0)
    sync_max_wait_seconds: float = Field(default=5.0, ge=0)
    sync_concurrency: int = Field(default=40, ge=1)
    sync_lease_seconds: float = Field(default=60.0, gt=0)
    sync_deadline_seconds: float = Field(default=300.0, gt=0)
    poll_interval_seconds: float = Field(default=300.0, gt=0)
    """How often a calendar without a live push channel is asked for changes."""
    audit_interval_seconds: float = Field(default=21_600.0, gt=0)
    """How often a calendar with a live push channel is asked all the same: pushes get lost."""
    mass_deletion_count: int = Field(default=20, ge=0)
    """A listing that lacks at least so many future events of a calendar, and more than the share below, is believed
    only when a second one, a minute later, comes out likewise. 0 switches the guard off."""
    mass_deletion_share: float = Field(default=0.5, ge=0, le=1)
    sweep_interval_seconds: float = Field(default=1.0, gt=0)
    retry_base_seconds: float = Field(default=5.0, gt=0)
    retry_max_seconds: float = Field(default=900.0, gt=0)
    provider_timeout_seconds: float = Field(default=30.0, gt=0)
    google_user_quota_per_minute: int = Field(default=550, ge=1)
    google_app_quota_per_minute: int = Field(default=9_000, ge=1)
    microsoft_mailbox_quota_per_minute: int = Field(default=900, ge=1)
    """Microsoft allows 10,000 in ten minutes."""
    microsoft_app_quota_per_minute: int = Field(default=600_000, ge=1)
    """Microsoft allows 130,000 in ten seconds."""

    egress_allow: Annotated[tuple[Network, ...], NoDecode] = ()
    """CIDRs that webhooks may reach although they are private."""
    egress_proxy: SecretStr | None = None
    """`http://[user:password@]host:port` of a proxy that speaks CONNECT; it resolves names and judges addresses."""
    webhook_allow_http: bool = False
    webhook_ports: Annotated[tuple[int, ...], NoDecode] = (443, 80, 8443, 8080)
    """Ports a webhook URL may name; where `EGRESS_ALLOW` opens the address, any port goes."""
    delivery_concurrency: int = Field(default=200, ge=1)
    delivery_endpoint_concurrency: int = Field(default=20, ge=1)
    delivery_timeout_seconds: float = Field(default=15.0, gt=0)
    delivery_retry_seconds: Annotated[tuple[float, ...], NoDecode] = (
        5,
        300,
        1_800,
        7_200,
        18_000,
        36_000,
        50_400,
        72_000,
        86_400,
    )
    """Waits between the ten attempts of Standard Webhooks' schedule."""
    replay_per_second: float = Field(default=100.0, gt=0)
    """Deliveries that a replay makes due in a second, where the endpoint has no rate of its own."""

    request_timeout_seconds: float = Field(default=60.0, gt=0)
    """From a request's head to the beginning of its answer."""
    database_pool_size: int = Field(default=20, ge=1)
    metrics_bind: str | None = None
    """`host:port` on which `serve` and `work` answer Prometheus; off by default."""
    metrics_token: SecretStr | None = None
    docs_enabled: bool = True
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    retention_days: int = Field(default=90, ge=1)
    delivery_retention_days: int | None = Field(default=None, ge=1)
    """Messages, deliveries and their attempts; as long as all else where it is not set."""

    rate_limit_reads_per_minute: int = Field(default=6_000, ge=0)
    """Requests of a project, where it has no limits of its own; 0: as many as it likes."""
    rate_limit_writes_per_minute: int = Field(default=3_000, ge=0)
    rate_limit_patience_seconds: float = Field(default=0.1, gt=0)
    """How long a request waits for Redis, before it and those after it are let through."""
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = ()
    """CIDRs of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""

    @field_validator("egress_allow", "trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ipaddress.ip_network(v.strip(), strict=False) for v in value.split(",") if v.strip())
        return value

    @field_validator("egress_proxy", mode="after")
    @classmethod
    def _proxy(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        try:
            parts = urlsplit(value.get_secret_value())
            is_plain = parts.path in ("", "/") and not parts.query and not parts.fragment
            is_one = is_plain and parts.scheme == "http" and parts.hostname and parts.port
        except ValueError:
            is_one = False
        if not is_one:
            raise ValueError("must be http://host:port, with user:password@ before the host where it needs them")
        return value

    @field_validator("delivery_retry_seconds", "webhook_ports", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        return tuple(v.strip() for v in value.split(",") if v.strip()) if isinstance(value, str) else value

    @field_validator("public_url", "google_api_url", "microsoft_graph_url", "microsoft_login_url", mode="after")
    @classmethod
    def _no_trailing_slash(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else None

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: str) -> str:
        if not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("must start with postgresql://")
        return "postgresql://" + value.split("://", 1)[1]

    @model_validator(mode="after")
    def _safe_in_production(self) -> "Settings":
        keys = self.secret_keys
        if self.environment == "production":
            development = DEVELOPMENT_KEY.split(":", 1)
            if any(k == development[0] or base64.b64encode(v).decode() == development[1] for k, v in keys.items()):
                raise ValueError("PUNCTUAL_SECRET_KEYS must be set to keys of your own in production")
            if self.public_url is not None and not self.public_url.startswith("https://"):
                raise ValueError("PUBLIC_URL must be https in production")
        return self

    @cached_property
    def secret_keys(self) -> dict[str, bytes]:
        """The keyring by key id, in order: the first seals."""
        ring: dict[str, bytes] = {}
        for part in self.punctual_secret_keys.get_secret_value().split(","):
            name, colon, encoded = part.strip().partition(":")
            try:
                key = base64.b64decode(encoded, validate=True)
            except binascii.Error:
                key = b""
            if not colon or not name or len(key) != 32 or name in ring:
                raise ValueError("PUNCTUAL_SECRET_KEYS must be id:base64-of-32-bytes, comma-separated, ids unique")
            ring[name] = key
        return ring

    @property
    def kept_delivery_days(self) -> int:
        """Days for which messages, deliveries and attempts are kept."""
        return self.delivery_retention_days or self.retention_days

    @property
    def google_userinfo_url(self) -> str:
        """Where the account behind a Google grant is read."""
        return f"{self.google_api_url}/oauth2/v3/userinfo"
