"""Publisher confirms between somebody who publishes and a broker that answers when it likes, or goes away."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from broker_jobs.core.confirms import Confirms, Receipt
from tests.support.fake_broker import ConfirmedChannel

index = st.integers(0, 1_000_000)


class ConfirmStory(RuleBasedStateMachine):
    """Messages, answers and closed channels in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.channel = ConfirmedChannel()
        self.confirms: Confirms[str] = Confirms()
        self.published = 0
        self.returned: set[str] = set()
        self.answered: dict[str, Receipt] = {}

    @rule(count=st.integers(1, 5))
    def publish(self, count: int) -> None:
        for _ in range(count):
            message = f"message {self.published}"
            self.published += 1
            assert self.confirms.sent(message) == self.channel.publish(message)

    @precondition(lambda self: self.channel.last)
    @rule(pick=index, multiple=st.booleans(), nack=st.booleans())
    def answer(self, pick: int, multiple: bool, nack: bool) -> None:
        number = pick % (self.channel.last + 1) if multiple else 1 + pick % self.channel.last
        answers = (self.confirms.nacked if nack else self.confirms.acked)(number, multiple=multiple)
        meant = self.channel.answer(number, multiple=multiple)
        self.expect(answers, meant, Receipt.refused if nack else Receipt.confirmed)

    @precondition(lambda self: self.channel.last)
    @rule(pick=index)
    def give_back(self, pick: int) -> None:
        number = 1 + pick % self.channel.last
        self.confirms.returned(number)
        if number in self.channel.open:
            self.returned.add(self.channel.open[number])

    @rule()
    def close(self) -> None:
        self.expect(self.confirms.channel_closed(), self.channel.close(), Receipt.unknown)
        assert len(self.confirms) == 0

    def expect(self, answers: tuple[tuple[str, Receipt], ...], meant: list[str], receipt: Receipt) -> None:
        assert list(answers) == [(message, Receipt.unroutable if message in self.returned else receipt) for message in meant]
        for message, said in answers:
            assert message not in self.answered, "each message is answered for once"
            self.answered[message] = said

    @invariant()
    def pending_is_what_the_broker_owes(self) -> None:
        self.confirms.check()
        assert len(self.confirms) == len(self.channel.open) == self.published - len(self.answered)
        assert self.confirms.oldest == min(self.channel.open, default=0)


TestConfirmStory = ConfirmStory.TestCase
