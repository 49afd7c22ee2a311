"""The pure and the small: splitting, waiting, pacing, taking turns, speed, health, the wire."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptd.domain.errors import ConfigError, IntegrityError, NoRoom, RemoteError, SourceChanged
from ckptd.domain.model import Checksums, PartDone, Stamp
from ckptd.transfer import calls, frames, refusal
from ckptd.transfer.backoff import Backoff
from ckptd.transfer.health import HealthBook
from ckptd.transfer.pacing import Pacer
from ckptd.transfer.progress import Progress, Queue
from ckptd.transfer.rates import WINDOW, Rate
from ckptd.transfer.refusal import Refusal, Refused, as_error
from ckptd.transfer.side_by_side import side_by_side
from ckptd.transfer.slots import Slots
from ckptd.transfer.split import part_size_for, parts_of

sizes = st.integers(0, 1 << 45)


class TestSplitting:
    @given(size=sizes, wanted=st.integers(1, 1 << 32), least=st.integers(1, 1 << 26), most=st.integers(1, 10_000))
    def test_the_part_size_keeps_the_stores_limits_and_never_shrinks(self, size, wanted, least, most):
        chosen = part_size_for(size, wanted, min_part_size=least, max_parts=most)
        assert chosen >= max(wanted, least)
        assert -(-size // chosen) <= most

    @given(size=st.integers(0, 1 << 26), part_size=st.integers(1 << 12, 1 << 24))
    def test_parts_cover_the_file_once_and_in_order(self, size, part_size):
        end = 0
        for number, part in enumerate(parts_of(size, part_size), start=1):
            assert (part.number, part.offset) == (number, end)
            assert 0 < part.length <= part_size
            end += part.length
            assert part.length == part_size or end == size
        assert end == size


class TestWaiting:
    @given(failures=st.integers(1, 10_000), chance=st.floats(0, 1, exclude_max=True))
    def test_waits_are_spread_around_a_doubling_that_ends(self, failures, chance):
        backoff = Backoff()
        doubled = min(backoff.most_s, backoff.first_s * 2 ** min(failures - 1, 60))
        assert 0.5 * doubled <= backoff.wait(failures, chance, None) <= 1.5 * doubled

    @given(asked=st.floats(0.001, 1e6))
    def test_the_stores_wish_is_obeyed_within_reason(self, asked):
        backoff = Backoff()
        assert backoff.wait(1, 0.0, asked) >= min(asked, backoff.longest_asked_s)
        assert backoff.wait(1, 0.0, asked) <= backoff.longest_asked_s

    def test_all_tries_together_take_about_half_a_minute(self):
        backoff = Backoff()
        assert 15 < sum(backoff.wait(failures, 0.5, None) for failures in range(1, backoff.tries)) < 45


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.slept = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds
        self.slept += seconds


def never() -> None:
    pass


class TestPacing:
    @given(counts=st.lists(st.integers(1, 1 << 20), min_size=1, max_size=60), rate=st.integers(1 << 10, 1 << 24))
    def test_bytes_never_go_faster_than_the_cap_and_hardly_slower(self, counts, rate):
        clock = Clock()
        pacer = Pacer(rate, clock=clock, sleep=clock.sleep)
        began = clock.now
        for count in counts:
            pacer.take(count, never)
        assert clock.now - began == pytest.approx(sum(counts) / rate, abs=0.26)

    def test_without_a_cap_nobody_sleeps(self):
        clock = Clock()
        Pacer(0, clock=clock, sleep=clock.sleep).take(1 << 40, never)
        assert clock.slept == 0

    def test_a_cancelled_wait_gives_its_bytes_back(self):
        clock = Clock()
        pacer = Pacer(1000, clock=clock, sleep=clock.sleep)

        def stop() -> None:
            raise InterruptedError

        with pytest.raises(InterruptedError):
            pacer.take(1_000_000, stop)
        pacer.take(1000, never)
        assert clock.slept <= 1.0

    def test_who_is_behind_a_cancelled_wait_goes_at_once(self):
        pacer, cancelled, done = Pacer(1000), threading.Event(), threading.Event()

        def stop() -> None:
            if cancelled.is_set():
                raise InterruptedError

        def first() -> None:
            with pytest.raises(InterruptedError):
                pacer.take(1_000_000, stop)

        def second() -> None:
            pacer.take(100, never)
            done.set()

        threads = [threading.Thread(target=first), threading.Thread(target=second)]
        for thread in threads:
            thread.start()
            time.sleep(0.05)  # one after the other
        assert not done.wait(0.3)
        cancelled.set()
        assert done.wait(20)  # and not after the thousand seconds that the first would have taken
        for thread in threads:
            thread.join()

    def test_the_cap_can_change_while_it_runs(self):
        clock = Clock()
        pacer = Pacer(1000, clock=clock, sleep=clock.sleep)
        pacer.set_rate(1_000_000)
        pacer.take(1_000_000, never)
        assert clock.slept == pytest.approx(1.0, abs=0.3)


class TestTurns:
    async def test_larger_priorities_and_then_older_transfers_go_first(self):
        slots, order = Slots(1), []
        old, young = slots.ticket(), slots.ticket()

        async def work(name: str, priority: int, ticket: int) -> None:
            async with slots.held(priority, ticket):
                order.append(name)

        async with slots.held(0, slots.ticket()):
            tasks = [
                asyncio.create_task(work(*each))
                for each in (
                    ("young", 0, young),
                    ("old 1", 0, old),
                    ("urgent", 5, young),
                    ("old 2", 0, old),
                    ("idle", -1, old),
                )
            ]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert order == ["urgent", "old 1", "old 2", "young", "idle"]
        assert slots.free == 1

    async def test_a_turn_handed_to_a_cancelled_waiter_goes_on_to_the_next(self):
        slots = Slots(1)
        got = asyncio.Event()

        async def wait_for_it() -> None:
            async with slots.held(0, 0):
                got.set()

        holder = slots.held(0, 0)
        await holder.__aenter__()
        first, second = asyncio.create_task(wait_for_it()), asyncio.create_task(wait_for_it())
        await asyncio.sleep(0)
        await holder.__aexit__(None, None, None)
        first.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert got.is_set()
        assert slots.free == 1

    async def test_a_remote_that_holds_everything_and_never_lets_go_stops_no_other(self):
        slots, dead = Slots(4), asyncio.Event()

        async def hang() -> None:
            async with slots.held(100, 0, "dead"):
                await dead.wait()

        hanging = [asyncio.create_task(hang()) for _ in range(10)]
        await asyncio.sleep(0)
        assert slots.free == 0
        at_once = 0
        for _ in range(3):
            async with asyncio.timeout(5), slots.held(0, 1, "well"), slots.held(0, 1, "well"):
                at_once += 2
                third = asyncio.create_task(slots.held(0, 2, "well").__aenter__())
                await asyncio.sleep(0)
                assert not third.done()  # its part is two of four
                third.cancel()
        assert at_once == 6
        dead.set()
        await asyncio.gather(*hanging)
        assert slots.free == 4

    async def test_remotes_at_work_take_turns_whoever_came_first(self):
        slots, order = Slots(2), []

        async def part(remote: str, ticket: int) -> None:
            async with slots.held(0, ticket, remote):
                order.append(remote)
                await asyncio.sleep(0)

        await asyncio.gather(*(part("first", 0) for _ in range(20)), *(part("second", 1) for _ in range(20)))
        assert abs(order[:20].count("first") - 10) <= 2

    async def test_side_by_side_keeps_its_width_and_ends_at_the_failure_that_says_most(self):
        running = most = 0

        async def work(item: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            if item == 6:
                raise Refused(Refusal("unavailable", "later", retryable=True))
            if item == 7:
                raise Refused(Refusal("source-changed", "never"))

        with pytest.raises(Refused, match="never"):
            await side_by_side(range(100), work, 4)
        assert most == 4
        await side_by_side([], work, 4)


class TestSpeed:
    def test_speed_is_that_of_the_last_seconds(self):
        clock = Clock()
        rate = Rate(clock)
        for _ in range(100):
            clock.now += 0.1
            rate.add(1000)
        assert rate.per_second() == pytest.approx(10_000, rel=0.06)
        clock.now += WINDOW + 1
        assert rate.per_second() == 0

    def test_lost_bytes_never_make_it_negative(self):
        rate = Rate(Clock())
        rate.add(-5)
        assert rate.per_second() == 0

    def test_what_an_earlier_process_moved_is_progress_but_no_speed(self):
        rate, queue, told = Rate(Clock()), Queue(), []
        with Progress(100, told.append, rate, queue) as progress:
            assert queue.bytes == 100
            progress.known(30)
            assert rate.per_second() == 0
            progress.moved(20)
            assert (queue.bytes, told) == (50, [30, 20])
            progress.again()
            assert queue.bytes == 100
        assert queue.bytes == 0


class TestHealth:
    def test_a_failure_that_a_retry_heals_does_not_count(self):
        book = HealthBook(lambda: 5.0)
        book.failed("r", Refusal("unavailable", "reset", retryable=True), given_up=False)
        assert book.get("r").ok
        book.answered("r")
        assert book.get("r").since is None

    def test_unreachable_since_the_first_failure_of_the_row(self):
        now = iter([10.0, 20.0, 30.0])
        book = HealthBook(lambda: next(now))
        for given_up in (False, True, True):
            book.failed("r", Refusal("unavailable", "refused", retryable=True), given_up=given_up)
        health = book.get("r")
        assert (health.ok, health.since, health.error, health.needs_somebody) == (False, 10.0, "refused", False)
        assert book.get("other").ok
        book.answered("r")
        assert book.get("r").ok

    def test_unreachable_when_nothing_succeeded_for_a_while(self):
        now = iter([10.0, 14.0, 15.0, 20.0, 21.0])
        book = HealthBook(lambda: next(now))
        told = []
        for answered in (False, False, False, True, False, False):
            if answered:
                book.answered("r")
            else:
                book.failed("r", Refusal("unavailable", "refused", retryable=True), given_up=False)
            told.append(book.get("r").ok)
        assert told == [True, True, False, True, True, True]

    @pytest.mark.parametrize("code", ["credentials", "bucket-missing", "configuration", "unknown-scheme", "no-space"])
    def test_what_only_a_person_can_heal_counts_at_once(self, code):
        book = HealthBook(lambda: 1.0)
        book.failed("r", Refusal(code, "no"), given_up=True)
        assert book.get("r").needs_somebody

    @pytest.mark.parametrize("code", ["not-found", "precondition", "checksum", "object-changed", "upload-gone"])
    def test_a_refusal_about_one_object_proves_that_the_store_answers(self, code):
        book = HealthBook(lambda: 1.0)
        book.failed("r", Refusal("unavailable", "x", retryable=True), given_up=True)
        book.failed("r", Refusal(code, "no"), given_up=True)
        assert book.get("r").ok

    @pytest.mark.parametrize(
        "code", ["source-changed", "no-room", "local", "mover-died", "cancelled", "bug", "corrupt"]
    )
    def test_trouble_of_this_node_says_nothing_about_the_store(self, code):
        book = HealthBook(lambda: 1.0)
        book.failed("r", Refusal(code, "x", retryable=True), given_up=True)
        assert book.get("r").ok
        book.failed("r", Refusal("unavailable", "x", retryable=True), given_up=True)
        book.failed("r", Refusal(code, "x"), given_up=True)
        assert not book.get("r").ok


texts = st.text(st.characters(codec=None), max_size=20)
stamps = st.builds(Stamp, st.integers(0, 1 << 63), sizes, st.integers(-(1 << 63), 1 << 63))
crcs = st.integers(0, (1 << 64) - 1)
remotes = st.builds(calls.Remote, texts, texts, st.lists(st.tuples(texts, texts), max_size=3).map(tuple))
sums = st.builds(Checksums, sizes, sizes, st.lists(crcs, max_size=4).map(tuple), crcs)
parts = st.lists(st.builds(PartDone, st.integers(1, 10_000), sizes, texts, crcs), max_size=4).map(tuple)


class TestTheWire:
    @given(
        message=st.one_of(
            st.builds(calls.PutWhole, remotes, texts, texts, stamps),
            st.builds(calls.Finish, remotes, texts, texts, parts, texts, stamps),
            st.builds(calls.Copy, texts, stamps, texts, sizes, st.none() | sums),
            st.builds(calls.Put, remotes, texts, st.binary(max_size=50), st.booleans()),
            st.builds(
                calls.Found,
                st.none() | st.builds(calls.ObjectStat, texts, sizes, texts, st.floats(0, 1e12), st.none() | crcs),
            ),
            st.builds(Refusal, texts, texts, texts, st.booleans(), st.none() | st.floats(0, 1e6)),
        )
    )
    def test_what_is_packed_comes_out_the_same(self, message):
        packed = frames.pack({"with": frames.plain(message)})
        assert frames.length_of(packed[:4]) == len(packed) - 4
        assert frames.build(type(message), frames.unpack(packed[4:])["with"]) == message

    def test_a_frame_no_peer_of_ours_would_send_is_an_error(self):
        with pytest.raises(ValueError, match="frame"):
            frames.length_of(b"\xff\xff\xff\xff")
        with pytest.raises(TypeError):
            frames.unpack(b"[]")
        with pytest.raises(TypeError):
            frames.build(calls.Begun, {"upload_id": 5})

    def test_every_call_has_an_answer_and_every_call_class_is_known(self):
        written = {
            each.__name__ for each in vars(calls).values() if isinstance(each, type) and issubclass(each, calls.Call)
        }
        assert {each.__name__ for each in calls.CALLS} == written - {"Call"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("source-changed", SourceChanged), ("no-room", NoRoom), ("checksum", IntegrityError), ("corrupt", IntegrityError),
        ("configuration", ConfigError), ("unknown-scheme", ConfigError), ("unavailable", RemoteError),
        ("credentials", RemoteError), ("not-found", RemoteError), ("object-changed", IntegrityError),
    ],
)  # fmt: skip
def test_a_refusal_becomes_the_error_a_user_knows(code, kind):
    error = as_error(Refusal(code, "why", "what to do", retryable=True), "remote 'r', key 'k'")
    assert type(error) is kind
    assert error.message == "remote 'r', key 'k': why"
    assert error.hint == "what to do"
    if isinstance(error, RemoteError):
        assert (error.backend_code, error.retryable) == (code, True)


def test_codes_of_backends_are_written_here_as_they_are_there():
    from backends.errors import BY_CODE

    ours = {value for name, value in vars(refusal).items() if name.isupper() and isinstance(value, str)}
    assert {"checksum", "upload-gone", "precondition", "not-found", "configuration", "object-changed"} <= ours & set(
        BY_CODE
    )
