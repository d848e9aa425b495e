"""Bugs that could be in teams, on either side; the properties in ``tests/property/test_teams.py``, or the
stories of either side in ``tests/unit``, must find each."""

from __future__ import annotations

from typing import Final

TESTS: Final = "tests/property/test_teams.py"

_PLANS: Final = "tests/unit/test_teams.py"

_SEATS: Final = "tests/unit/test_worker_teams.py"

_THERE: Final = "broker_jobs/coordinator/teams.py"
_HERE: Final = "worker/broker_jobs_worker/machine/seating.py"
_WORKER: Final = "worker/broker_jobs_worker/machine/worker.py"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant[, tests that must find it])
    ("teams: begin when one is not ready", _THERE, "all(map(formation.is_ready, formation.members))", "any(map(formation.is_ready, formation.members))"),
    ("teams: ask a worker into two teams", _THERE, "self._of.keys() | self._resting.keys()", "self._resting.keys()"),
    ("teams: mix groups", _THERE, "found[worker.group].append(worker)", 'found[""].append(worker)', _PLANS),
    ("teams: let the others go before the root agrees", _THERE, "        formation.ending = True\n        yield", "        yield"),
    ("teams: form none while one is given up", _THERE, "if not formation.ending and not formation.working:", "if not formation.working:", _PLANS),
    ("teams: keep one that lost a member", _THERE, "elif not all(self._is_there(member, staying=True)", "elif not any(self._is_there(member, staying=True)", _PLANS),
    ("teams: keep one that lost its root", _THERE, "if not self._is_there(formation.root):", "if False:"),
    ("teams: do not ask again who did not hear", _THERE, "        elif not (formation.complete or formation.ending):\n            yield TeamAsked(*key, formation.team)\n", ""),
    ("teams: do not tell the root again that all are ready", _THERE, "                yield TeamAsked(*key, formation.team, complete=True)\n\n    def _is", "                pass\n\n    def _is", _PLANS),
    ("teams: do not ask the root again to leave", _THERE, "            elif key == formation.root and formation.ending:\n                yield TeamAsked(*key)\n", ""),
    ("teams: leave workers in teams that nobody knows", _THERE, "                    yield TeamAsked(*key)\n            else:", "                    pass\n            else:"),
    ("teams: take a worker for free that is in an unknown team", _THERE, " | self._strangers", "", _PLANS),
    ("teams: adopt none", _THERE, " and key == Formation(seat.team).root:\n                yield from self._adopt", " and False:\n                yield from self._adopt"),
    ("teams: go on with what another coordinator has begun", _THERE, "        if not formation.working:\n            # What", "        if False:\n            # What", _PLANS),
    ("teams: tell one that was asked in to leave", _THERE, "yield from self._is_not_in(root, mine, now) if mine is not None else [TeamAsked(*root)]", "yield TeamAsked(*root)"),
    ("teams: adopt what others say of a root", _THERE, " and key == Formation(seat.team).root:\n                yield from self._adopt", ":\n                yield from self._adopt", _PLANS),
    ("teams: rest for ever", _THERE, "if others and until > now}", "if until > 0}"),
    ("teams: leave no time for other tasks", _THERE, "if others and until > now}", "if False}", _PLANS),
    ("teams: wait for a coordinator that is gone", _WORKER, "now - self._heard_at >= timing.alone_after", "False", _SEATS),
    ("teams: leave one whose coordinator answers", _WORKER, "                    if not partition:\n                        self._heard_at = now\n", "", _SEATS),
    ("teams: take any coordinator for that of the teams", _WORKER, "                    if not partition:\n", "                    if True:\n", _SEATS),
    ("teams: do not ask whether the coordinator is there", _WORKER, "yield from self._greet(now) if self._waits_for_team else self._beat(now)", "yield from self._beat(now)", _SEATS),
    ("teams: a root that works leaves when it is asked", _HERE, "        if at_work or self.working:\n            return False\n", "", _SEATS),
    ("teams: be ready while something runs", _HERE, "if self.team is None or not idle:", "if self.team is None:"),
    ("teams: take other tasks while the team forms", _HERE, "            return self.team is not None or bool(request.nodes)", "            return bool(request.nodes)"),
    ("teams: take a task of several nodes alone", _HERE, "            return self.team is not None or bool(request.nodes)", "            return self.team is not None"),
    ("teams: let any member take the task", _HERE, " if self.team is not None and self.root else None", " if self.team is not None else None", _SEATS),
    ("teams: let the root take the task before it is told", _HERE, " or not self._complete or", " or"),
    ("teams: take a second task", _HERE, " or self._state is not SeatState.ready:", ":"),
    ("teams: take tasks of another queue", _HERE, "return self.place != source", "return False"),
    ("teams: stay when the task has ended", _HERE, "                self.leave()\n                return True", "                return False"),
    ("teams: remember what was said of the last team", _HERE, "SeatState.joining, False\n", "SeatState.joining, self._complete\n"),
)  # fmt: skip
