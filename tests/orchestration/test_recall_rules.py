"""Recall's rules: who is due, at which risk, in which group, by which way, when."""

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.domain.findings import Box, CariesDepth, DecisionState, Finding, FindingKind
from node.domain.review import DecisionCounts, SignedFinding, SignedReview
from node.domain.teeth import Surface, Tooth
from node.errors import InvalidInput
from orchestration.messengers.consent import Choice, Contact, Way, next_hour, next_turn, ways
from orchestration.messengers.message import Channel
from orchestration.recall import due, lift, replies, risk
from orchestration.recall.capacity import allowance
from orchestration.recall.due import Interval, Recall, RecallType, Track, Why
from orchestration.recall.risk import Evidence, Pockets, Risk
from orchestration.recall.segments import Segment, may_be_delayed, segment_of
from orchestration.recall.sequence import SEQUENCES, Finish, Send, Touch, next_step
from pms_writeback.records import PmsRecord, RecordKind

TODAY = date(2026, 3, 2)
NEW_YORK = ZoneInfo("America/New_York")
PROPHY = RecallType("1", Track.PROPHY, Interval(6, 1))
PERIO = RecallType("2", Track.PERIO, Interval(3, 0))
PANO = RecallType("3", Track.IMAGING, Interval(60, 0))
TYPES = {each.key: each for each in (PROPHY, PERIO, PANO)}
MINUTE = timedelta(minutes=1)
EVERY_DAY = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def recall(key: str = "9", type_key: str = "1", **changed: object) -> Recall:
    values: dict[str, object] = {
        "due": TODAY,
        "previous": date(2025, 9, 1),
        "scheduled": None,
        "interval": Interval(6, 1),
        "is_disabled": False,
        "disabled_until": None,
    }
    return Recall(key, type_key, **{**values, **changed})  # type: ignore[arg-type]


def judge(*recalls: Recall, done: tuple[tuple[str, date], ...] = (), **more: object):
    return due.judge(recalls, TYPES, done, **{"today": TODAY, "days_ahead": 21, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "day", "after"),
    [
        ("6m1d", date(2025, 8, 31), date(2026, 3, 1)),
        ("3m", date(2025, 11, 30), date(2026, 2, 28)),
        ("1y", date(2024, 2, 29), date(2025, 2, 28)),
        ("2w3d", date(2026, 1, 1), date(2026, 1, 18)),
    ],
)
def test_intervals_count_months_by_the_calendar(text: str, day: date, after: date) -> None:
    interval = Interval.parse(text)
    assert interval is not None
    assert interval.after(day) == after
    assert Interval.parse(interval.text()) == interval


@pytest.mark.parametrize("text", ["", "0m", "six months", "6m1x", "99999y", "-3m"])
def test_an_interval_that_is_none_is_told(text: str) -> None:
    assert Interval.parse(text) is None


def test_a_visit_since_the_chart_counted_begins_the_interval_anew() -> None:
    wanted, left = judge(recall(), done=(("D1110", date(2026, 2, 1)),))
    assert not wanted
    assert left == {"9": Why.NOT_YET}
    wanted, _ = judge(recall(due=None), done=())
    assert wanted[0].due_on == date(2026, 3, 2)


def test_a_due_day_set_by_hand_holds() -> None:
    by_hand = recall(due=TODAY + timedelta(days=90))
    assert judge(by_hand, done=(("D1110", date(2025, 9, 1)),))[1] == {"9": Why.NOT_YET}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"is_disabled": True}, Why.DISABLED),
        ({"disabled_until": TODAY + timedelta(days=1)}, Why.DISABLED_UNTIL),
        ({"scheduled": TODAY + timedelta(days=4)}, Why.SCHEDULED),
        ({"due": TODAY + timedelta(days=22)}, Why.NOT_YET),
        ({"due": None, "previous": None}, Why.NO_DATE),
    ],
)
def test_recalls_that_the_chart_holds_back_are_left_with_their_reason(
    changed: dict[str, object], why: Why
) -> None:
    wanted, left = judge(recall(**changed))
    assert (wanted, left) == ([], {"9": why})


def test_a_missed_visit_and_an_ended_pause_hold_nothing_back() -> None:
    past = TODAY - timedelta(days=1)
    wanted, _ = judge(recall(scheduled=past, disabled_until=TODAY))
    assert len(wanted) == 1


def test_inactive_patients_booked_ones_images_and_cleaning_beside_perio_are_left() -> None:
    assert judge(recall(), is_active=False)[1] == {"9": Why.INACTIVE}
    assert judge(recall(), booked_on=TODAY)[1] == {"9": Why.SCHEDULED}
    wanted, left = judge(recall("1", "1"), recall("2", "2"), recall("3", "3"))
    assert [each.track for each in wanted] == [Track.PERIO]
    assert left == {"1": Why.PERIO_INSTEAD, "3": Why.IMAGES}


def test_types_are_told_by_their_procedures() -> None:
    def kind(codes: str, name: str = "x") -> Track:
        values = {"codes": codes, "name": name, "interval": "6m1d"}
        record = PmsRecord(RecordKind.RECALL_TYPE, "1", "", "", None, values)
        return due.read_type(record).track

    assert kind("D1110,D0120,D0274") is Track.PROPHY
    assert kind("D4910,D0120") is Track.PERIO
    assert kind("D0330") is Track.IMAGING
    assert kind("", "Ortho check") is Track.OTHER


# --- risk ----------------------------------------------------------------------------------------


def evidence(**changed: object) -> Evidence:
    values: dict[str, object] = {
        "age": 40,
        "enamel_lesions": 0,
        "dentine_lesions": 0,
        "periapical": 0,
        "bone_sites": 0,
        "has_signed_images": True,
        "exams": (Pockets(date(2026, 1, 5), 168, 2, 0, 0),),
        "has_perio_therapy": False,
    }
    return Evidence(**{**values, **changed})  # type: ignore[arg-type]


def test_low_risk_is_lengthened_one_step_at_a_time() -> None:
    assessed = risk.assess(evidence(), Track.PROPHY, Interval(6, 1))
    assert (assessed.risk, assessed.months) == (Risk.LOW, 9)
    assert any("no caries" in reason for reason in assessed.reasons)
    assert risk.assess(evidence(), Track.PROPHY, Interval(18, 0)).months == 24
    assert risk.assess(evidence(), Track.PROPHY, Interval(24, 0)).months is None


def test_children_never_wait_longer_than_a_year() -> None:
    young = evidence(age=12)
    assert risk.assess(young, Track.PROPHY, Interval(9, 0)).months == 12
    assert risk.assess(young, Track.PROPHY, Interval(12, 0)).months is None
    assert risk.assess(evidence(age=None), Track.PROPHY, Interval(12, 0)).months is None


def test_signed_caries_shortens_at_once() -> None:
    assessed = risk.assess(evidence(dentine_lesions=2), Track.PROPHY, Interval(12, 0))
    assert (assessed.risk, assessed.months) == (Risk.HIGH, 4)
    assert risk.assess(evidence(dentine_lesions=3), Track.PROPHY, Interval(6, 1)).months == 3
    assert risk.assess(evidence(enamel_lesions=1), Track.PROPHY, Interval(6, 1)).months is None


def test_without_images_or_a_perio_chart_nothing_is_proposed() -> None:
    for lacking in ({"has_signed_images": False}, {"exams": ()}):
        assessed = risk.assess(evidence(**lacking), Track.PROPHY, Interval(6, 1))
        assert (assessed.risk, assessed.months) == (Risk.UNKNOWN, None)
    assert risk.assess(evidence(exams=()), Track.PERIO, Interval(3, 0)).months is None


def test_perio_maintenance_stays_between_two_and_four_months() -> None:
    worse = (Pockets(date(2026, 1, 5), 168, 9, 6, 2), Pockets(date(2025, 10, 1), 168, 6, 3, 0))
    assert risk.assess(evidence(exams=worse), Track.PERIO, Interval(3, 0)).months == 2
    calm = (Pockets(date(2026, 1, 5), 168, 2, 0, 0), Pockets(date(2025, 10, 1), 168, 3, 0, 0))
    assert risk.assess(evidence(exams=calm), Track.PERIO, Interval(3, 0)).months == 4
    assert risk.assess(evidence(exams=calm), Track.PERIO, Interval(6, 0)).months == 4


@given(
    st.builds(
        Evidence,
        age=st.none() | st.integers(0, 100),
        enamel_lesions=st.integers(0, 9),
        dentine_lesions=st.integers(0, 9),
        periapical=st.integers(0, 3),
        bone_sites=st.integers(0, 9),
        has_signed_images=st.booleans(),
        exams=st.lists(
            st.builds(
                Pockets,
                st.dates(date(2025, 1, 1), TODAY),
                st.just(168),
                st.integers(0, 60),
                st.integers(0, 40),
                st.integers(0, 20),
            ),
            max_size=3,
        ).map(lambda found: tuple(sorted(found, key=lambda each: each.day, reverse=True))),
        has_perio_therapy=st.booleans(),
    ),
    st.sampled_from([Track.PROPHY, Track.PERIO]),
    st.integers(1, 36),
)
def test_every_proposal_is_within_its_bounds_with_a_reason(
    found: Evidence, track: Track, months: int
) -> None:
    assessed = risk.assess(found, track, Interval(months, 0))
    if assessed.months is None:
        return
    assert assessed.reasons
    low, high = (2, 4) if track is Track.PERIO else (3, 24)
    if track is Track.PROPHY and (found.age is None or found.age < 18):
        high = 12
    assert low <= assessed.months <= high
    assert assessed.months != months


def signed(kind: FindingKind, tooth: str, depth: CariesDepth | None, days_ago: int) -> SignedReview:
    finding = Finding(kind, Box(0, 0, 9, 9), Tooth(tooth), (Surface.MESIAL,), depth=depth)
    one = SignedFinding("f", "i", "1.2", "ai", DecisionState.ACCEPTED, finding, None)
    at = datetime.combine(TODAY - timedelta(days=days_ago), time(12), UTC)
    return SignedReview(
        "s", "1.2.3", 1, "u", "Dr", "dentist", at, "mine", "", "0", (), (one,), (),
        DecisionCounts(1, 1, 0, 0, 0),
    )  # fmt: skip


def test_only_signed_findings_of_two_years_count_each_place_once() -> None:
    reviews = [
        signed(FindingKind.CARIES, "46", CariesDepth.D1, 10),
        signed(FindingKind.CARIES, "46", CariesDepth.E2, 300),
        signed(FindingKind.CARIES, "36", CariesDepth.E1, 20),
        signed(FindingKind.CARIES, "16", CariesDepth.D3, 800),
    ]
    exam = PmsRecord(RecordKind.PERIO_EXAM, "5", "2", "", None, {"day": "2026-01-05"})
    measure = PmsRecord(
        RecordKind.PERIO_MEASURE, "6", "2", "", None,
        {"exam_key": "5", "sequence": "Probing", "buccal": 5, "lingual": 6, "mesiobuccal": -1},
    )  # fmt: skip
    mobility = PmsRecord(
        RecordKind.PERIO_MEASURE, "7", "2", "", None,
        {"exam_key": "5", "sequence": "Mobility", "buccal": 9},
    )  # fmt: skip
    found = risk.gather(reviews, [exam], [measure, mobility], (), date(1986, 3, 3), TODAY)
    assert (found.dentine_lesions, found.enamel_lesions, found.age) == (1, 1, 39)
    assert found.exams == (Pockets(date(2026, 1, 5), 2, 2, 2, 1),)


# --- groups, trials, capacity --------------------------------------------------------------------


def test_perio_and_high_risk_come_first_and_are_never_delayed() -> None:
    def group(track: Track, level: Risk, days: int, age: int = 40) -> Segment:
        return segment_of(due.Due("1", "1", track, TODAY, days), level, age, 540)

    assert group(Track.PERIO, Risk.LOW, 200) is Segment.PERIO
    assert group(Track.PROPHY, Risk.HIGH, 200, age=9) is Segment.HIGH_RISK
    assert group(Track.PROPHY, Risk.LOW, 10, age=9) is Segment.CHILD
    assert group(Track.PROPHY, Risk.LOW, 181) is Segment.LONG_OVERDUE
    assert group(Track.PROPHY, Risk.LOW, 1) is Segment.OVERDUE
    assert group(Track.PROPHY, Risk.UNKNOWN, -9) is Segment.DUE_SOON
    assert group(Track.PERIO, Risk.HIGH, 541) is Segment.LAPSED
    for segment in Segment:
        for level in Risk:
            if may_be_delayed(segment, level):
                assert level is Risk.LOW
                assert segment not in (Segment.PERIO, Segment.HIGH_RISK)


def test_the_draw_follows_from_its_seed_and_keeps_its_share() -> None:
    keys = [f"case:{number}" for number in range(4000)]
    arms = [lift.draw("spring", key, 0.25) for key in keys]
    assert arms == [lift.draw("spring", key, 0.25) for key in keys]
    assert arms != [lift.draw("autumn", key, 0.25) for key in keys]
    assert 0.22 < arms.count(lift.Arm.DELAYED) / len(arms) < 0.28
    assert lift.Arm.DELAYED not in {lift.draw("spring", key, 0.0) for key in keys}


def test_lift_compares_bookings_before_the_delay_is_over() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def trials(arm: lift.Arm, total: int, booked: int, late: int = 0) -> list[lift.Trial]:
        moments = [start + timedelta(days=3)] * booked + [start + timedelta(days=20)] * late
        nothing = [None] * (total - len(moments))
        return [lift.Trial(arm, start, 14, at) for at in (*moments, *nothing)]

    # R. G. Newcombe 1998, table II, first row, method 10: 56/70 against 48/80
    rows = trials(lift.Arm.PROMPT, 70, 56) + trials(lift.Arm.DELAYED, 80, 48, late=9)
    measured = lift.measure(rows, start + timedelta(days=15))
    assert measured is not None
    assert measured.difference == pytest.approx(0.2)
    assert (measured.low, measured.high) == (
        pytest.approx(0.0524, abs=1e-4),
        pytest.approx(0.3339, abs=1e-4),
    )
    assert lift.measure(rows, start + timedelta(days=13)) is None


def test_no_more_go_out_than_there_is_room_for() -> None:
    assert allowance(10, 0, 0.2, 100) == 50
    assert allowance(10, 40, 0.2, 100) == 10
    assert allowance(10, 60, 0.2, 100) == 0
    assert allowance(10, 0, 0.2, 25) == 25
    assert allowance(None, 900, 0.2, 25) == 25


# --- ways and hours ------------------------------------------------------------------------------

BOTH = (Channel.EMAIL, Channel.SMS)
CONTACT = Contact("a@example.org", "212 555 0123", "yes")


def channels(contact: Contact = CONTACT, *choices: Choice, consent: bool = True) -> list[Channel]:
    found = ways(contact, choices, BOTH, texts_need_consent=consent)
    return [way.channel for way in found]


def said(choice: str, scope: str = "all", day: int = 1) -> Choice:
    return Choice(scope, choice, datetime(2026, 1, day, tzinfo=UTC))


def test_texts_want_a_yes_in_the_chart_or_from_the_person() -> None:
    assert channels() == [Channel.EMAIL, Channel.SMS]
    unknown = Contact("a@example.org", "212 555 0123", "")
    assert channels(unknown) == [Channel.EMAIL]
    assert channels(unknown, consent=False) == [Channel.EMAIL, Channel.SMS]
    assert channels(unknown, said("start", "sms")) == [Channel.EMAIL, Channel.SMS]
    refused = Contact("a@example.org", "212 555 0123", "no")
    assert channels(refused, said("start", "sms"), consent=False) == [Channel.EMAIL]


def test_stop_by_one_way_ends_all_until_start() -> None:
    assert channels(CONTACT, said("stop")) == []
    assert channels(CONTACT, said("stop"), said("start", day=2)) == [Channel.EMAIL, Channel.SMS]
    assert channels(CONTACT, said("start", day=2), said("stop", day=3)) == []
    assert channels(CONTACT, said("start"), said("stop")) == []  # at once: stop wins
    assert channels(CONTACT, said("stop", "sms")) == [Channel.EMAIL]


@pytest.mark.parametrize("method", ["DoNotCall", "SeeNotes", "Mail", "HmPhone"])
def test_who_wants_a_person_gets_no_message(method: str) -> None:
    assert channels(Contact("a@example.org", "212 555 0123", "yes", method)) == []


def test_the_preferred_way_comes_first() -> None:
    wants = Contact("a@example.org", "212 555 0123", "yes", "TextMessage", "Email")
    assert channels(wants) == [Channel.SMS, Channel.EMAIL]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).astimezone(UTC)


@pytest.mark.parametrize(
    ("now", "then"),
    [
        ("2026-03-02T10:00", "2026-03-02T10:00"),
        ("2026-03-02T08:59", "2026-03-02T09:00"),
        ("2026-03-02T19:00", "2026-03-03T09:00"),
        ("2026-03-07T20:00", "2026-03-08T09:00"),  # the clocks go forward that night
        ("2026-10-31T23:30", "2026-11-01T09:00"),  # and back
    ],
)
def test_nothing_goes_out_at_night(now: str, then: str) -> None:
    assert next_hour(at(now), NEW_YORK, time(9), time(19), EVERY_DAY) == at(then)


def test_days_of_rest_are_kept() -> None:
    friday = at("2026-03-06T19:30")
    assert next_hour(friday, NEW_YORK, time(9), time(19), EVERY_DAY[:5]) == at("2026-03-09T09:00")
    with pytest.raises(InvalidInput):
        next_hour(friday, NEW_YORK, time(9), time(19), ())
    with pytest.raises(InvalidInput):
        next_hour(friday, NEW_YORK, time(19), time(9), EVERY_DAY)


@given(
    st.integers(0, 365 * 24 * 60).map(lambda n: datetime(2026, 1, 1, tzinfo=UTC) + n * MINUTE),
    st.sampled_from(["America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC"]),
    st.integers(0, 22),
    st.integers(1, 12),
    st.sets(st.sampled_from(EVERY_DAY), min_size=1),
)
def test_the_wall_clock_is_within_the_hours_whatever_the_night(
    moment: datetime, zone_name: str, begin: int, length: int, days: set[str]
) -> None:
    zone = ZoneInfo(zone_name)
    send_from, send_until = time(begin), time(min(23, begin + length))
    found = next_hour(moment, zone, send_from, send_until, days)
    wall = found.astimezone(zone)
    assert found >= moment
    assert send_from <= wall.time() < send_until
    assert EVERY_DAY[wall.weekday()] in days
    assert next_hour(found, zone, send_from, send_until, days) == found


def test_nobody_is_written_to_too_often() -> None:
    now = datetime(2026, 3, 10, 12, tzinfo=UTC)
    days = [now - timedelta(days=each) for each in (6, 4)]
    assert next_turn(now, [], 2, 3) == now
    assert next_turn(now, days[:1], 2, 3) == now
    assert next_turn(now, days, 2, 3) == now + timedelta(days=1)
    assert next_turn(now, [now - timedelta(hours=1)], 7, 3) == now + timedelta(days=3, hours=-1)


# --- steps ---------------------------------------------------------------------------------------

MAIL, TEXT = Way(Channel.EMAIL, "a@example.org"), Way(Channel.SMS, "+12125550123")
NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)


@pytest.mark.parametrize("segment", [each for each in Segment if SEQUENCES[each]])
def test_every_sequence_ends_and_changes_the_way_where_it_says(segment: Segment) -> None:
    touches: list[Touch] = []
    now = NOW
    while isinstance(step := next_step(segment, touches, (TEXT, MAIL), now), Send):
        now = step.not_before
        touches.append(Touch(step.step, step.way.channel, now))
        assert len(touches) <= 4
    assert step.reason == "no answer"
    gaps = [b.at - a.at for a, b in pairwise(touches)]
    assert all(gap >= timedelta(days=3) for gap in gaps)
    turned = [each.turns_channel for each in SEQUENCES[segment]]
    for number, turns in enumerate(turned):
        if turns:
            assert touches[number].channel is not touches[number - 1].channel


def test_a_late_step_is_not_sent_in_the_past_and_no_way_means_a_person() -> None:
    touched = [Touch(0, Channel.SMS, NOW - timedelta(days=90))]
    step = next_step(Segment.PERIO, touched, (TEXT,), NOW)
    assert isinstance(step, Send)
    assert (step.not_before, step.way) == (NOW, TEXT)
    assert next_step(Segment.PERIO, [], (), NOW) == Finish("no way to write", True)
    assert next_step(Segment.LAPSED, [], (MAIL,), NOW) == Finish("overdue for too long", True)


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("STOP", "stop"),
        (" stop. ", "stop"),
        ("Stop texting me!", "stop"),
        ("please don\u2019t text me again", "stop"),
        ("Yes. Actually unsubscribe", "stop"),
        ("cancel", "stop"),
        ("No me envíen más", "stop"),
        ("BAJA", "stop"),
        ("start", "start"),
        ("Ayuda", "help"),
        ("Yes please!", "yes"),
        ("Sí", "yes"),
        ("no gracias", "no"),
        ("Can I book for Tuesday?", "book"),
        ("quiero una cita", "book"),
        ("I already have an appointment", "unclear"),
        ("I can't come in", "unclear"),
        ("who is this", "unclear"),
        ("wrong number", "unclear"),
        ("my tooth hurts, yes", "unclear"),
        ("", "unclear"),
        ("\U0001f44d", "unclear"),
    ],
)
def test_answers_are_read_plainly_and_the_rest_is_for_a_person(text: str, meaning: str) -> None:
    assert replies.parse(text) == meaning


@given(st.text(max_size=400))
def test_any_answer_can_be_read(text: str) -> None:
    assert replies.parse(text) in replies.Meaning
    assert replies.parse("STOP " + text) is replies.Meaning.STOP
