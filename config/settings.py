"""The settings of the system: one struct a section, read once by each ``__main__``.

Three layers, the later wins: ``config/default.yaml``, the file named by ``IPA_CONFIG``, and environment variables
``IPA_<SECTION>__<KEY>`` (or ``…_FILE`` with the path of a file that holds the value, for secrets). ``IPA_AMQP_URL`` and
``IPA_MONGO_URL`` are short names for ``IPA_BROKER__URL`` and ``IPA_STORE__URL``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit

import msgspec
import yaml
from msgspec import Meta

from config.errors import ConfigError
from config.maintenance import MaintenanceWindow, check_windows
from config.yaml_source import YamlSource

DIRECTORY = Path(__file__).parent
"""Where the shipped configuration lies."""

SHORT_NAMES = {"IPA_AMQP_URL": ("broker", "url"), "IPA_MONGO_URL": ("store", "url")}
OTHER_VARIABLES = frozenset({"IPA_CONFIG"})
SECRETS = frozenset({"password", "secret", "admin_password", "webhook_secret"})

Port = Annotated[int, Meta(ge=0, le=65535)]
Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]
HttpUrl = Annotated[str, Meta(pattern=r"^https?://")]
LoopbackUrl = Annotated[str, Meta(pattern=r"^http://127\.0\.0\.1:[0-9]{1,5}$")]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A group of settings. A key that no setting has is an error, never ignored."""


class BrokerSettings(Section, frozen=True, kw_only=True):
    """Where RabbitMQ is, and how patient to be with it."""

    url: str
    connect_wait_s_max: Positive
    heartbeat_s: Count


class StoreSettings(Section, frozen=True, kw_only=True):
    """Where MongoDB is, and how long things are kept there."""

    url: str
    database: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,38}$")]
    connect_wait_s_max: Positive
    attempts_keep_days: Count
    minutes_keep_days: Count
    hours_keep_days: Count
    rollups_keep_days: Count
    decisions_keep_days: Count


class BatchSettings(Section, frozen=True, kw_only=True):
    """How many messages one worker takes at once, and how long it waits for them."""

    size_max: Annotated[int, Meta(ge=1, le=5000)]
    wait_ms_max: Annotated[int, Meta(ge=0, le=10_000)]


class StageBatches(Section, frozen=True, kw_only=True):
    """The batches of each worker."""

    ingestor: BatchSettings
    failure_classifier: BatchSettings
    anomaly_watcher: BatchSettings
    experiment_allocator: BatchSettings
    shopper_watcher: BatchSettings
    retry_advisor: BatchSettings
    router_advisor: BatchSettings

    def of(self, stage: str) -> BatchSettings:
        """The batches of the worker with this name."""
        batch = getattr(self, stage)
        assert isinstance(batch, BatchSettings)
        return batch


class GatewaySettings(Section, frozen=True, kw_only=True):
    """Where the gateways are listed."""

    path: str


class RunnerSettings(Section, frozen=True, kw_only=True):
    """The loop around every worker."""

    heartbeat_s: Positive
    tick_s: Positive
    batches: StageBatches


class FailureSettings(Section, frozen=True, kw_only=True):
    """How sure the failure classifier must be, and how often it learns from corrections."""

    confidence_min: Share
    train_every_s: Positive


class ShopperSettings(Section, frozen=True, kw_only=True):
    """How often kinds of shoppers are found anew."""

    train_every_s: Positive


class AnomalySettings(Section, frozen=True, kw_only=True):
    """When the anomaly watcher calls something unwell."""

    window_s: Annotated[float, Meta(ge=0.5, le=60)]
    grace_s: Annotated[float, Meta(ge=0)]
    baseline_minutes: Count
    attempts_min: Count
    false_alerts_per_week: Positive
    close_after_s: Positive
    segments_max: Annotated[int, Meta(ge=16, le=100_000)]
    watched_max: Count
    contamination: Annotated[float, Meta(gt=0, lt=0.5)]
    retrain_s: Positive
    maintenance: Annotated[list[MaintenanceWindow], Meta(max_length=500)]


CurrencyCode = Annotated[str, Meta(pattern=r"^[A-Z]{3}$")]


class RoutingSettings(Section, frozen=True, kw_only=True):
    """How the router advisor learns and explores."""

    default_policy: str
    memory_half_life_s: Positive
    recent_half_life_s: Positive
    exploration_floor: Share
    exploration_cost_max: Share
    exploration_spend_max: Annotated[dict[CurrencyCode, Annotated[float, Meta(ge=0)]], Meta(max_length=200)]
    boldness: Positive
    canary_share: Share
    draws: Annotated[int, Meta(ge=16, le=4096)]
    warm_start_minutes: Count
    cells_max: Count
    margin_share: Annotated[float, Meta(gt=0, le=1)] | None
    train_every_s: Positive
    train_days: Count
    rules_path: str
    moved_share_max: Annotated[float, Meta(gt=0, le=1)]


class ExperimentSettings(Section, frozen=True, kw_only=True):
    """Where experiments are defined, and how they are judged."""

    path: str
    reload_s: Positive
    report_s: Positive
    alpha: Annotated[float, Meta(gt=0, lt=0.5)]
    orders_expected: Count


class WebSettings(Section, frozen=True, kw_only=True):
    """The pages for people."""

    host: str
    port: Port
    session_hours: Positive
    secure_cookies: bool
    admin_name: str
    admin_password: str | None
    demo_control_url: LoopbackUrl | None


class NotificationSettings(Section, frozen=True, kw_only=True):
    """Who is told of anomalies and automatic actions, and how."""

    webhook_url: HttpUrl | None
    webhook_secret: str | None
    smtp_url: Annotated[str, Meta(pattern=r"^smtps?://")] | None
    mail_from: str
    mail_to: list[str]
    severity_min: Literal["minor", "major", "critical"]
    group_s: Annotated[float, Meta(ge=0, le=3600)]


class DashboardSettings(Section, frozen=True, kw_only=True):
    """The live charts: a Bokeh server that only the web pages talk to."""

    host: str
    port: Port
    secret: str | None
    poll_ms: Annotated[int, Meta(ge=100, le=60_000)]


class LogSettings(Section, frozen=True, kw_only=True):
    """What is logged, and how it looks."""

    level: Literal["debug", "info", "warning", "error"]
    format: Literal["auto", "json", "text"]


class Settings(Section, frozen=True, kw_only=True):
    """Everything that can be set."""

    broker: BrokerSettings
    store: StoreSettings
    gateways: GatewaySettings
    runner: RunnerSettings
    failures: FailureSettings
    shoppers: ShopperSettings
    anomalies: AnomalySettings
    routing: RoutingSettings
    experiments: ExperimentSettings
    web: WebSettings
    notifications: NotificationSettings
    dashboard: DashboardSettings
    log: LogSettings


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings in force.

    Args:
        environment: variables to use instead of the process's own.
    Raises: ConfigError: a file or a variable does not fit; says which one and why.
    """
    environment = os.environ if environment is None else environment
    default = YamlSource(DIRECTORY / "default.yaml")
    default.as_type(Settings)
    values = default.value
    if named := environment.get("IPA_CONFIG"):
        overlay = YamlSource(Path(named))
        values = _laid_over(values, overlay.value)
        try:
            msgspec.convert(values, Settings)
        except msgspec.ValidationError as error:
            raise overlay.located(error, Settings) from None
        _checked(values, overlay)
    for variable, section, key, text in _variables(environment):
        values = _with_variable(values, variable, section, key, text)
    return msgspec.convert(values, Settings)


def _checked(values: Any, overlay: YamlSource) -> None:
    settings = msgspec.convert(values, Settings)
    if isinstance(overlay.value, dict) and "anomalies" in overlay.value:
        check_windows(settings.anomalies.maintenance, resolved(settings.gateways.path), overlay)


def resolved(path: str) -> Path:
    """Find a file that the settings name: as it stands, or beside the shipped configuration."""
    given = Path(path)
    return given if given.is_absolute() or given.exists() else DIRECTORY / given


def masked(settings: Settings) -> dict[str, Any]:
    """The settings as plain data with every secret and every password in a URL hidden."""

    def hide(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: hide(name, inner) for name, inner in value.items()}
        if key in SECRETS and value is not None:
            return "***"
        return masked_url(value) if key.endswith("url") and value is not None else value

    return {key: hide(key, value) for key, value in msgspec.to_builtins(settings).items()}


def masked_url(url: str) -> str:
    """Hide the password of a URL.

    >>> masked_url("amqp://checkout:secret@localhost:5672/")
    'amqp://checkout:***@localhost:5672/'
    """
    parts = urlsplit(url)
    if not parts.password:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:***@{host}"))


def _laid_over(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: _laid_over(base.get(key), value) for key, value in over.items()}
    return over


def _variables(environment: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """List (variable, section, key, text) for every setting in the environment."""
    found = []
    for variable, text in sorted(environment.items()):
        if not variable.startswith("IPA_") or variable in OTHER_VARIABLES:
            continue
        name = variable.removesuffix("_FILE")
        section, _, key = name.removeprefix("IPA_").lower().partition("__")
        if name in SHORT_NAMES:
            section, key = SHORT_NAMES[name]
        if not key:
            raise ConfigError(
                variable, "is no setting; settings are named IPA_<SECTION>__<KEY>, see config/default.yaml"
            )
        found.append((variable, section, key, text if name == variable else _secret_file(variable, text)))
    return found


def _secret_file(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(variable, f"names a file that cannot be read: {error}") from None


def _with_variable(values: dict[str, Any], variable: str, section: str, key: str, text: str) -> dict[str, Any]:
    """Put one variable over the values; it is read as YAML, so 5 is a number and true a truth value."""
    try:
        read = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        read = text
    for value in (read, text):
        over = {section: {key: value}}
        merged: dict[str, Any] = _laid_over(values, over)
        try:
            msgspec.convert(merged, Settings)
        except msgspec.ValidationError as error:
            problem = str(error)
        else:
            return merged
    raise ConfigError(variable, problem)
