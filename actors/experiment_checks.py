"""What must be right in an experiments file beyond the type of each value; every mistake is told with its line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from itertools import pairwise

from config.yaml_source import YamlSource
from ml.experiments.assignment import BUCKETS
from ml.experiments.design import Experiment, Layer
from ml.experiments.metrics import MONEY_METRICS
from ml.routing.parameters import mistake_in


def check_judgement(source: YamlSource, place: str, experiment: Experiment) -> None:
    """Times in order, a ramp that rises to the coverage, money in one currency, blocks longer than their burn-in."""
    name = experiment.name
    if experiment.start is not None and experiment.stop is not None and experiment.stop <= experiment.start:
        raise source.error(f"{place}.stop", f"{name!r} stops before it starts; give a later stop")
    shares = [step.coverage for step in experiment.ramp] + [experiment.coverage]
    for index, (share, after) in enumerate(pairwise(shares)):
        if share >= after:
            raise source.error(
                f"{place}.ramp[{index}].coverage",
                f"the ramp of {name!r} must rise, and end below its coverage of {experiment.coverage:g}; "
                f"this step has {share:g} and {after:g} comes after it",
            )
    low, high = experiment.amount_minor_min, experiment.amount_minor_max
    if low is not None and high is not None and low > high:
        raise source.error(f"{place}.amount_minor_max", f"no amount is from {low} to {high}; raise it")
    asked = {experiment.primary, *experiment.goals, *(each.metric for each in experiment.guardrails)}
    if (money := sorted(asked & MONEY_METRICS)) and len(experiment.currencies) != 1:
        raise source.error(
            place, f"{money[0]} of {name!r} adds up amounts, so give it exactly one of currencies, as [INR]"
        )
    if experiment.unit == "time_block" and experiment.burn_in_minutes >= experiment.block_minutes:
        raise source.error(
            f"{place}.burn_in_minutes", f"nothing of a block of {experiment.block_minutes} minutes is left; lower it"
        )
    if experiment.unit == "time_block" and 1440 % experiment.block_minutes:
        raise source.error(
            f"{place}.block_minutes", f"{experiment.block_minutes} minutes do not divide a day; take 15, 30, 60, 120 …"
        )


def check_methods(source: YamlSource, place: str, experiment: Experiment, taken: Collection[str]) -> None:
    """No method that only differs by its capitals from one that gateways take: nobody would be in the experiment."""
    for index, method in enumerate(experiment.methods):
        alike = next((name for name in sorted(taken) if name.lower() == method.lower()), method)
        if method not in taken and alike in taken:
            raise source.error(f"{place}.methods[{index}]", f"no gateway takes {method!r}; write {alike}")


def check_parameters(
    source: YamlSource, place: str, experiment: Experiment, known: Collection[str], gateways: Collection[str]
) -> None:
    """Parameters that policies have, with values that they take."""
    for index, arm in enumerate(experiment.arms):
        mistake = mistake_in(arm.policy, arm.parameters, known, gateways)
        if mistake is not None:
            raise source.error(f"{place}.arms[{index}].parameters.{mistake.parameter}", mistake.problem)


def check_layers(source: YamlSource, layers: Sequence[Layer], experiments: Sequence[Experiment]) -> None:
    """Slots of one layer that do not overlap, over units of one kind; layers that are named once."""
    names = [layer.name for layer in layers]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise source.error(f"$.layers[{index}].name", f"layer {name!r} stands here twice; remove one")
    taken: dict[str, list[tuple[Fraction, Fraction, Experiment]]] = {}
    for index, experiment in enumerate(experiments):
        place = f"$.experiments[{index}]"
        low, high = (Fraction(repr(edge)) for edge in experiment.slot)
        if round(low * BUCKETS) >= round(high * BUCKETS):
            raise source.error(f"{place}.slot", f"the slot of {experiment.name!r} is empty; give [from, to], from < to")
        if experiment.layer is None:
            if experiment.slot != (0.0, 1.0):
                raise source.error(f"{place}.slot", f"the slot of {experiment.name!r} needs a layer; name one")
            continue
        for other_low, other_high, other in taken.get(experiment.layer, []):
            if low < other_high and other_low < high:
                raise source.error(
                    f"{place}.slot",
                    f"{experiment.name!r} and {other.name!r} overlap in layer {experiment.layer!r}; "
                    "experiments of one layer exclude each other, so give them slots apart",
                )
            if (experiment.unit == "customer_id") != (other.unit == "customer_id"):
                raise source.error(
                    f"{place}.unit",
                    f"{experiment.name!r} splits by {experiment.unit} and {other.name!r} of the same layer by "
                    f"{other.unit}, so they could share payments; take another layer",
                )
        taken.setdefault(experiment.layer, []).append((low, high, experiment))
