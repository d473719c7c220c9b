"""Which courses are shown live, and of which points they consist."""

from __future__ import annotations

from typing import Any

from messaging.contracts import GoalReported
from storage.read_models.live_courses import COURSES_MAX, CoursePoint, course_points, shown_of
from storage.read_models.live_facts import ExperimentStanding

GOALS = [
    GoalReported(metric="attempts_per_order", arm="b", value_control=1.2, value_arm=1.1, difference=-0.1,
                 difference_low=-0.2, difference_high=0.0, alpha=0.05, units=650),
    GoalReported(metric="authorization_rate", arm="b", value_control=0.9, value_arm=0.92, difference=0.02,
                 difference_low=-0.01, difference_high=0.05, alpha=0.05, units=700),
]  # fmt: skip


def standing(name: str = "first", **fields: Any) -> ExperimentStanding:
    """A running experiment that has something to tell."""
    told = {"difference": 0.02, "difference_low": -0.01, "difference_high": 0.05, "challenger": "b", "control": "a"}
    base = {"reported_at": 100.0, "arms": [], "verdict": "", "phase": f"{name}:1", "goals": GOALS}
    return ExperimentStanding(experiment=name, **base | told | {"metric": "authorization_rate"} | fields)


def point(at: float, **fields: Any) -> CoursePoint:
    """A point at a moment."""
    base = {"compared": 50, "challenger": "b", "difference": 0.1, "low": -0.2, "high": 0.4}
    return CoursePoint(at=at, **base | fields)


def test_no_more_than_can_be_told_apart_are_shown() -> None:
    """Running experiments come before ended ones, newer reports before older ones; those shown are in order of name."""
    running = [standing(f"run-{n}", reported_at=float(n)) for n in range(COURSES_MAX - 1)]
    ended = [standing("ended-late", running=False, reported_at=999.0), standing("ended", running=False)]
    shown = [one.experiment for one in shown_of([*ended, *running])]
    assert shown == sorted(["ended-late", *(one.experiment for one in running)])


def test_only_differences_of_shares_share_an_axis() -> None:
    """Experiments judged by money or by an unknown metric, and those without a difference, are left out."""
    left_out = [standing(metric="cost_minor_per_order"), standing(metric="made-up"), standing(challenger=None)]
    assert shown_of([*left_out, standing("old", metric=None)]) == [standing("old", metric=None)]


def test_a_course_is_about_one_difference_and_ends_with_the_report() -> None:
    """Points of another challenger or metric are passed over; the report is the last point where it is the newest."""
    points = [point(1.0), point(2.0, challenger="c"), point(3.0, metric="order_success_rate"), point(4.0, metric=None)]
    course = course_points(standing(), points)
    assert [each.at for each in course] == [1.0, 4.0, 100.0]
    assert (course[-1].difference, course[-1].compared) == (0.02, 700)
    assert [each.at for each in course_points(standing(reported_at=4.0), points)] == [1.0, 4.0]
    assert course_points(standing(difference=None), points) == (points[0], points[3])
