"""Bugs that could be in the job manager and its templates; the property of its records, or its stories, must find each."""

from __future__ import annotations

from typing import Final

TESTS: Final = "tests/property/test_manager_record.py"

_RECORDS: Final = "tests/unit/test_manager_statuses.py"
_STORIES: Final = "tests/unit/test_job_manager.py"
_PARTS: Final = "tests/unit/test_manager_parameters.py"
_TEMPLATES: Final = "tests/unit/test_templates.py"

_RECORD: Final = "broker_jobs/manager/record.py"
_ACTIONS: Final = "broker_jobs/manager/actions.py"
_STORE: Final = "broker_jobs/manager/store.py"
_PLACES: Final = "broker_jobs/manager/workspaces.py"
_VARIABLES: Final = "broker_jobs/templates/variables.py"

MUTANTS: Final = (
    # (what is broken, file, text, text of the mutant[, tests that must find it])
    ("manager: late news leave an end", _RECORD, "    if record.ended or news.run != record.run:", "    if news.run != record.run:"),
    ("manager: news of an earlier run count", _RECORD, "    if record.ended or news.run != record.run:", "    if record.ended:", _RECORDS),
    ("manager: claim results that are claimed", _RECORD, " or (record.processings and not once_more):", ":"),
    ("manager: claim results of a job that failed", _RECORD, "(record.status == ERROR and record.processings)", "record.status == ERROR", _RECORDS),
    ("manager: an old claim has its say", _RECORD, "(record.run, record.processings) != (claimed.run, claimed.processings)", "record.run != claimed.run", _RECORDS),
    ("manager: keep the end of the last run", _RECORD, "        ended=False,\n", ""),
    ("manager: keep the work of the last run", _RECORD, '        work="",\n        run', "        run"),
    ("manager: keep the claim of the last run", _RECORD, "        processings=0,\n", ""),
    ("manager: keep when the last run ended", _RECORD, "        completed_ms=None,\n    )", "    )"),
    ("manager: resubmit what has not ended", _RECORD, "    if not record.ended:\n        raise", "    if False:\n        raise"),
    ("manager: execute twice", _RECORD, "    if record.status != PENDING:\n        raise", "    if False:\n        raise", _RECORDS),
    ("manager: stop what has ended", _RECORD, '    """It ends without any work."""\n    if record.ended:', '    """It ends without any work."""\n    if False:'),
    ("manager: a failure to send counts after the end", _RECORD, "    if record.run != run or record.ended:", "    if record.run != run:"),
    ("manager: complete although results are to be processed", _RECORD, "        status = RESULTS_READY\n    moving", "        pass\n    moving", _RECORDS),
    ("manager: a mixed end becomes a success", _RECORD, "record.status if record.status == VARIOUS_COMPLETE else RESULTS_READY", "RESULTS_READY", _RECORDS),
    ("manager: work takes the custom status away", _RECORD, "    if record.status.code is Code.OTH and", "    if False and", _RECORDS),
    ("manager: call back although nothing changed", _ACTIONS, "        if after.status != before.status:", "        if True:", _STORIES),
    ("manager: what a function raised is not kept", _ACTIONS, '            return f"{name} raised', '            f"{name} raised', _STORIES),
    ("manager: delete what is active", _ACTIONS, "            if not record.ended and Category.active", "            if False and Category.active", _STORIES),
    ("manager: call a function that cannot be imported processed", _ACTIONS, '            self._remark(job_id, f"results are', '            self._change(job_id, lambda found: records.processing(found, record.run, once_more=True))\n            self._remark(job_id, f"results are', _STORIES),
    ("manager: prepare what may not run", _ACTIONS, "            allowed(self.store.get(job_id))\n", "", _STORIES),
    ("manager: send in spite of what came before", _ACTIONS, "            self._unsent(record, problem, earlier)\n            return None\n", "            pass\n", _STORIES),
    ("manager: a file leads out of the workspace", "broker_jobs/manager/job.py", "        if self.workspace not in target.parents:", "        if False:", _STORIES),
    ("manager: write over what others wrote", _STORE, "_jobs.c.id == record.id, _jobs.c.version == record.version", "_jobs.c.id == record.id, _jobs.c.id == record.id", "tests/unit/test_manager_races.py"),
    ("manager: jobs of all applications", _STORE, "wanted = [_jobs.c.app == app]", "wanted = [_jobs.c.id != app]", _STORIES),
    ("manager: a user's name leads out", _PLACES, 'if name.startswith("."):', "if False:", _PARTS),
    ("manager: two users share a folder", _PLACES, "if len(name) <= _LONGEST else", "if True else", _PARTS),
    ("templates: a value is looked into again", _VARIABLES, "    return variables[name]\n", "    return replaced(variables[name], variables)\n", _TEMPLATES),
    ("templates: no way to write it as it is", _VARIABLES, "        return found[0][1:]\n", "        return found[0]\n", _TEMPLATES),
    ("templates: known variables are escaped", _VARIABLES, "found[0] if found[1] in known else ", "", _TEMPLATES),
    ("templates: an unknown variable stays", _VARIABLES, "    if not end or name not in variables:", "    if not end:", _TEMPLATES),
    ("templates: tuples are left alone", _VARIABLES, "        case tuple():", "        case tuple() if False:", _TEMPLATES),
)  # fmt: skip
