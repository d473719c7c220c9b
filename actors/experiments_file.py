"""Reads the experiments file, refuses mistakes with file and line, and notices when the file changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from actors.experiment_checks import check_judgement, check_layers, check_methods, check_parameters
from config.errors import ConfigError
from config.gateways import Gateway
from config.yaml_source import YamlSource
from messaging.contracts import ExperimentsDefined
from ml.experiments.assignment import BUCKETS, arm_ranges
from ml.experiments.design import HOLDOUT, Experiment, Holdout, Layer

VERSION_HEX_DIGITS: Final = 16
NO_GATEWAYS: Final[Mapping[str, Gateway]] = {}


class ExperimentsDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole experiments file; ``config/experiments.schema.json`` is made from this."""

    layers: Annotated[list[Layer], Meta(max_length=50)] = []
    holdout: Holdout | None = None
    experiments: Annotated[list[Experiment], Meta(max_length=50)] = []


class ExperimentsFile:
    """The experiments file, looked at again and again.

    Args:
        path: of the file.
        policies: names of the routing policies that exist.
        default_policy: the policy of payments that are in no experiment.
        parameters: names of what an arm may set for its policy.
        gateways: that exist; none: what they are called and take is not looked at.
    """

    def __init__(
        self,
        path: Path,
        policies: Collection[str],
        *,
        default_policy: str,
        parameters: Collection[str] = (),
        gateways: Mapping[str, Gateway] = NO_GATEWAYS,
    ) -> None:
        self._path = path
        self._policies = policies
        self._default_policy = default_policy
        self._parameters = parameters
        self._gateways = gateways
        self._stamp: tuple[int, int] | None = None
        self._said: str | None = None

    def poll(self, now: datetime) -> ExperimentsDefined | ConfigError | None:
        """Look whether there is something new: a definition, a mistake, or None: the same as last time.

        A file that was only touched is the same. After a mistake, what was in force stays in force: this tells of the
        mistake once, and of the file again when it is mended.
        """
        stamp = _stamp(self._path)
        if stamp is not None and stamp == self._stamp:
            return None
        self._stamp = stamp
        found: ExperimentsDefined | ConfigError
        try:
            found = read_experiments(
                self._path,
                now,
                policies=self._policies,
                default_policy=self._default_policy,
                parameters=self._parameters,
                gateways=self._gateways,
            )
        except ConfigError as error:
            found = error
        says = found.version if isinstance(found, ExperimentsDefined) else str(found)
        if says == self._said:
            return None
        self._said = says
        return found


def read_experiments(  # the file, the time, and the four things that its words must fit to
    path: Path,
    now: datetime,
    *,
    policies: Collection[str],
    default_policy: str,
    parameters: Collection[str] = (),
    gateways: Mapping[str, Gateway] = NO_GATEWAYS,
) -> ExperimentsDefined:
    """Read and check the experiments file.

    Args:
        path: of the file.
        now: becomes ``defined_at``.
        policies: names of the routing policies that exist.
        default_policy: the policy of payments that are in no experiment; one of ``policies``.
        parameters: names of what an arm may set for its policy.
        gateways: that exist; none: what they are called and take is not looked at.
    Returns: all experiments in the order of the file, disabled ones too. The version names their content: the same
        content has the same version, whatever its comments and layout.
    Raises: ConfigError: the file does not fit; says line, mistake and remedy.
    """
    source = YamlSource(path)
    document = source.as_type(ExperimentsDocument)
    experiments = document.experiments
    if default_policy not in policies:
        raise ConfigError("routing.default_policy", _unknown_policy(default_policy, policies))
    if document.holdout is not None and document.holdout.policy not in policies:
        raise source.error("$.holdout.policy", _unknown_policy(document.holdout.policy, policies))
    _check_unique(source, document)
    taken = {method for gateway in gateways.values() for method in gateway.methods}
    for index, experiment in enumerate(experiments):
        place = f"$.experiments[{index}]"
        _check_arms(source, place, experiment, policies)
        check_judgement(source, place, experiment)
        check_parameters(source, place, experiment, parameters, gateways)
        check_methods(source, place, experiment, taken)
    check_layers(source, document.layers, experiments)
    _check_reachable(source, experiments)
    content = msgspec.json.encode(
        [default_policy, experiments, document.layers, document.holdout], order="deterministic"
    )
    return ExperimentsDefined(
        version=f"exp_{hashlib.sha256(content).hexdigest()[:VERSION_HEX_DIGITS]}",
        defined_at=now,
        source=path.name[:60],
        experiments=experiments,
        default_policy=default_policy,
        layers=document.layers,
        holdout=document.holdout,
        defined_by=owner_of(path),
    )


def experiments_schema() -> str:
    """The JSON Schema of the experiments file, for editors that complete and check while one types."""
    schema = msgspec.json.schema(ExperimentsDocument)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A/B tests of routing policies"}
    return json.dumps(head | schema, indent=2, ensure_ascii=False) + "\n"


def owner_of(path: Path) -> str:
    """Who wrote a file: the name of its owner on this machine, as far as it has one."""
    try:
        return path.owner()[:60]
    except (KeyError, OSError, NotImplementedError):
        return "unknown"


def _check_unique(source: YamlSource, document: ExperimentsDocument) -> None:
    names: set[str] = {HOLDOUT}
    users: dict[str, str] = {layer.seed: f"layer {layer.name}" for layer in document.layers}
    if document.holdout is not None:
        if other := users.get(document.holdout.seed):
            raise source.error("$.holdout.seed", f"seed {document.holdout.seed!r} is already that of {other!r}")
        users[document.holdout.seed] = HOLDOUT
    for index, experiment in enumerate(document.experiments):
        if experiment.name == HOLDOUT:
            raise source.error(
                f"$.experiments[{index}].name", f"{HOLDOUT!r} is the name of the permanent control slice; take another"
            )
        if experiment.name in names:
            raise source.error(
                f"$.experiments[{index}].name", f"experiment {experiment.name!r} stands here twice; rename one"
            )
        if other := users.get(experiment.seed):
            raise source.error(
                f"$.experiments[{index}].seed",
                f"seed {experiment.seed!r} is already that of {other!r}; with one seed both would split alike, "
                "so give each its own",
            )
        names.add(experiment.name)
        users[experiment.seed] = experiment.name


def _check_arms(source: YamlSource, place: str, experiment: Experiment, policies: Collection[str]) -> None:
    name = experiment.name
    total = sum(Fraction(repr(arm.weight)) for arm in experiment.arms)
    if total != 1:
        raise source.error(f"{place}.arms", f"arms of {name!r} add up to {float(total):.10g}, must be 1")
    seen: set[str] = set()
    for index, (arm, (low, high)) in enumerate(zip(experiment.arms, arm_ranges(experiment), strict=True)):
        if arm.name in seen:
            raise source.error(f"{place}.arms[{index}].name", f"{name!r} has two arms {arm.name!r}; rename one")
        seen.add(arm.name)
        if arm.policy not in policies:
            raise source.error(f"{place}.arms[{index}].policy", _unknown_policy(arm.policy, policies))
        if low == high:
            raise source.error(
                f"{place}.arms[{index}].weight",
                f"arm {arm.name!r} of {name!r} gets none of the {BUCKETS} buckets; raise its weight or the coverage",
            )


def _check_reachable(source: YamlSource, experiments: list[Experiment]) -> None:
    """Refuse an experiment that could never get a payment, because one above it takes them all."""
    for index, experiment in enumerate(experiments):
        for above in experiments[:index]:
            if experiment.enabled and above.enabled and _takes_all_of(above, experiment):
                raise source.error(
                    f"$.experiments[{index}].name",
                    f"experiment {experiment.name!r} never gets a payment, {above.name!r} above takes them all; "
                    f"lower the coverage of {above.name!r}, or limit its methods or countries",
                )


def _takes_all_of(above: Experiment, experiment: Experiment) -> bool:
    """Whether every payment that is eligible below is already taken above."""
    return (
        sum(high - low for low, high in arm_ranges(above)) == BUCKETS
        and above.unit in ("order_id", "time_block", experiment.unit)
        and above.slot == (0.0, 1.0)
        and not (above.issuers or above.currencies or above.amount_minor_min or above.amount_minor_max is not None)
        and above.start is None
        and above.stop is None
        and not above.ramp
        and (not above.methods or (bool(experiment.methods) and set(experiment.methods) <= set(above.methods)))
        and (not above.countries or (bool(experiment.countries) and set(experiment.countries) <= set(above.countries)))
    )


def _unknown_policy(policy: str, policies: Collection[str]) -> str:
    return f"there is no policy {policy!r}; known are {', '.join(sorted(policies))}"


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when the file does; None: it cannot be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
