"""One example of every message, for the golden vectors: every class that travels is in one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from broker_jobs.core.choice import Choice
from broker_jobs.core.data import DataRef
from broker_jobs.core.job import Return
from broker_jobs.core.outcome import Canceled, Cause, Crashed, Failed, Succeeded
from broker_jobs.core.request import Request as Need
from broker_jobs.core.resources import Resources
from broker_jobs.core.spec import Lane, Retry, TaskOptions
from broker_jobs.core.states import JobState, TaskState
from broker_jobs.core.step import StepSpec
from broker_jobs.core.value import Encoding, Inline, Stored
from broker_jobs.core.versions import Version
from broker_jobs.wire import messages as m

JOB: Final = "0190f3a2b4c57d6e8f90a1b2c3d4e5f6"
VALUE: Final = Inline(Encoding.msgpack, b"\x92\x90\x80")
STORED_0_1_0: Final = Stored(Encoding.pickle, "/values", f"{JOB}/{'ab' * 32}", b"\xab" * 32, 100_000)
STORED: Final = Stored(Encoding.pickle, "/values", f"{JOB}/{'ab' * 32}", b"", 100_000, b"\xab" * 32)
ORIGIN: Final = m.Origin("machine/host", "/usr/bin/python3", "3.11.7", ("/home/user", "/usr/lib/python3.11"))
NEED: Final = Need((("cpus", 20_000), ("memory", 2**32)))
HAS: Final = Resources((("cpus", 20_000), ("memory", 2**32)))
HEADER: Final = m.JobHeader("train", "client-1", 1_790_000_000_000, ORIGIN, "user", ("a=b", "nightly"), 3, "key-1", ephemeral=True)
OPTIONS: Final = TaskOptions(
    NEED,
    Lane.high,
    5,
    Retry(4, 0.5, 3.0, 60.0, 0.2, ("builtins.ValueError", 3)),
    90_000,
    2**30,
    None,
    (("N", "3"),),
    "/data",
    "/home/user",
    "out.txt",
    "err.txt",
)
PROGRAM: Final = m.Task(0, m.Program((b"sort", b"\xff"), b"input", task_dir=True), name="sort", deps=(), after=(1,))
ADDED: Final = m.Task(7, m.Program((b"sort",), env=(("ID", "7"),)), outside=(m.Outside("0" * 32, 3, after=True),))
DATA: Final = DataRef("cafe" * 8, "mesh.csv", "text/csv", 7, b"d" * 32, "/values", "data/uploads/fe/cafe")
STEP_CALL: Final = m.Task(
    2,
    m.StepCall("simulate", Version(1, 2, 0), VALUE, ("0",), (m.Fill("mesh", 0, None, ("parts", 1)),), (("mesh", (DATA,)),)),
    deps=(0,),
)
COLLECTING: Final = m.Task(3, m.Program((b"sort",), files=(("in/mesh.csv", DATA),), collects=("plots/*.png",)))
CALL: Final = m.Task(1, m.Call("f" * 64, VALUE, ("0", "ab" * 32)), 0, "train", 2, (0,), ())
CHUNK: Final = m.Chunk(
    JOB,
    "0",
    "cpus2-00000000",
    Lane.high,
    "client-1",
    (PROGRAM, CALL),
    (OPTIONS,),
    ORIGIN,
    {"f" * 64: m.Function("train", "__main__", b"pickled")},
    {"0": VALUE, "ab" * 32: STORED_0_1_0},
    "/values",
    direct=True,
    isolated=True,
    header=HEADER,
    seal=m.Seal(2, 1),
)
FAILED: Final = Failed(Cause.exit_code, "exit code 3", "Traceback", VALUE, ("builtins.ValueError", "builtins.Exception"), 3, 9)
OUTPUT: Final = m.Output(b"tail", 70_000, "/spool/1")
REPLY: Final = m.Reply(
    JOB,
    "worker-1",
    "boot-1",
    (
        m.Started(0, 1, "boot-1.1", 1_790_000_000_001),
        m.Progress(0, 1, 0.25, "meshing"),
        m.Ended(0, 1, "boot-1.1", Succeeded(VALUE), 1, 2, OUTPUT, OUTPUT),
        m.Ended(1, 1, "boot-1.2", FAILED, 1, 2),
        m.Ended(2, 1, "boot-1.3", Canceled("wrong input"), 1, 2),
        m.Ended(3, 1, "boot-1.4", Crashed("killed by signal 9", 9), 1, 2),
        m.Returned(4, 1, Return.redelivered),
        m.Taken(5, 1, "boot-1.5"),
    ),
    "cpus2-00000000",
)
MANY: Final = (
    replace(CHUNK, isolated=False, tasks=tuple(replace(CALL, number=number, deps=(), after=()) for number in range(6))),
    replace(REPLY, items=tuple(m.Ended(n, 1, f"boot-1.{n}", Succeeded(VALUE if n % 2 else STORED), n, n + 1) for n in range(7))),
    replace(CHUNK, isolated=False, tasks=(CALL,), chain=tuple(replace(CALL, number=number, deps=(number - 1,)) for number in range(2, 8))),
    replace(REPLY, items=(m.Ended(0, 1, "boot-1.1", Succeeded(VALUE), 1, 2), m.Started(1, 1, "boot-1.2", 2, after="boot-1.1"))),
)
"""Messages in which several of one class follow one another."""
HELD: Final = m.Held(JOB, 1, 2, taken=True)
INFO: Final = m.JobInfo(
    JOB, "train", JobState.failed, 7, 1, {"failed": 1}, 1, ("a",), "user", 3, 2, "because", incomplete=True, ephemeral=True, notes=("note",)
)
TASK: Final = m.TaskInfo(1, TaskState.failed, "t", 2, 1, "why", "worker-1", "cpus2-00000000", "call", FAILED, 1, 2, 0.5, "half")
CLASS: Final = m.ResourceClass("cpus2-00000000", NEED)
REVOCATION: Final = m.Revocation(JOB, 1, 2, "canceled")
WORKER: Final = m.WorkerInfo("worker-1", "host", 42, "ready", HAS, HAS, 5, "0.1.0", 3)

STEP: Final = StepSpec("simulate", Version(1, 2, 0, ("rc", 1)), "Simulate", "at length", ("a",), "too old", "{}", "{}")

QUESTIONS: Final[dict[str, m.Question]] = {
    "open-job": m.OpenJob(JOB, m.JobHeader("train", "client-1", 1, CHUNK.origin), "/values"),
    "reserve": m.ReserveTasks(JOB, "key", 3),
    "close-job": m.CloseJob(JOB),
    "find-job": m.FindJob("last"),
    "list-jobs": m.ListJobs(JobState.failed, ("a",), "train*", 5, ephemeral=True),
    "get-changes": m.GetChanges(JOB, 3, 1000, 10, values=True, tasks=(1, 2)),
    "get-output": m.GetOutput(JOB, 1),
    "get-outputs": m.GetOutputs(JOB, (1, 2)),
    "read-output": m.ReadOutput(JOB, 1, stderr=True, execution="boot-1.1", start=70_000, most=2**20, wait_ms=5000),
    "cancel": m.CancelTasks(JOB, (1,), "wrong", unstarted_only=True),
    "pause": m.PauseTasks(JOB, (1,), "later"),
    "resume": m.ResumeTasks(JOB, (1,)),
    "resubmit": m.ResubmitJob(JOB, "f" * 32, (1,), everything=True),
    "forget": m.ForgetJobs((JOB,)),
    "get-workers": m.GetWorkers(),
    "list-steps": m.ListSteps("sim*", ("a",), schemas=True, skip=3),
    "explain": m.ExplainTask(JOB, 1),
    "add-data": m.AddData(m.DataInfo(DATA, ("a",), "me", 5)),
    "find-data": m.FindData("cafe"),
    "list-data": m.ListData("*.csv", ("a",), JOB, JOB, used=True, step="simulate*", limit=5, skip=3, choice=Choice(("b",), ("c",), 1, 2)),
    "tag-data": m.TagData(DATA.id, ("b",)),
    "delete-data": m.DeleteData(DATA.id),
    "list-uses": m.ListUses(DATA.id),
    "get-work": m.GetWork(JOB, 1),
    "list-log": m.ListLog(DATA.id, 7, 5),
    "end-workers": m.EndWorkers(("worker-1", "last"), "night", stop=True, reason="a new kernel"),
}
ANSWERS: Final[dict[str, m.Answer]] = {
    "job-info": INFO,
    "reserved": m.Reserved(JOB, 7),
    "job-list": m.JobList((INFO,), more=True),
    "changes": m.Changes(INFO, 7, (TASK,), more=True),
    "task-output": m.TaskOutput(TaskState.failed, OUTPUT, OUTPUT, "host"),
    "outputs": m.Outputs((m.TaskOutput(TaskState.failed, OUTPUT, OUTPUT, "host", 1, 2, "boot-1.1", "worker-1"),), 1),
    "piece": m.Piece("boot-1.1", 70_000, b"more", 70_004, ended=True, missing=True),
    "cancel-result": m.CancelResult(1, 2, 3, 4),
    "pause-result": m.PauseResult(1, 2, 3, 4, 5),
    "resume-result": m.ResumeResult(1, 2, 3, 4),
    "forgotten": m.Forgotten(1),
    "data-info": m.DataInfo(DATA, ("a",), "me", 5, JOB, 1, "out", "simulate 1.2.0", 3),
    "data-list": m.DataList((m.DataInfo(DATA),), more=True),
    "data-deleted": m.DataDeleted(DATA.id),
    "use-list": m.UseList((m.Use(JOB, 1, "mesh"),)),
    "work-info": m.WorkInfo(JOB, 2, STEP_CALL.work),
    "log": m.Log((m.LogEntry(7, 5, m.LogKind.data_made, DATA.id, "mesh.csv", "by simulate 1.2.0", JOB),), more=True),
    "step-list": m.StepList((m.KnownStep(STEP, ("worker-1",), 5),), more=True),
    "cluster": m.Cluster("coordinator-1", "0.1.0", 9, (WORKER,), (CLASS,), 1),
    "explanation": m.Explanation(
        TaskState.queued,
        ("busy",),
        (1, 2),
        9,
        "cpus=2",
        (
            m.WorkerFit(
                "worker-1",
                "active",
                (m.VariantFit(ever=True, now=False, short=(m.Shortage("cpus", 20_000, 40_000, 0),)),),
                "night",
                holds=True,
            ),
        ),
    ),
    "ending-workers": m.EndingWorkers(("worker-1",), 3),
    "refused": m.Refused(m.Refusal.ambiguous, "which?", ("a", "b")),
}
SEAT: Final = m.Seat(
    m.Team("t-1", "2nodes-cpus1-0", Lane.normal, (m.Member("worker-1", "boot-1", "host"), m.Member("worker-2", "boot-2", "other"))),
    m.SeatState.ready,
)
EXAMPLES: Final[dict[str, tuple[m.Message, m.Role]]] = {
    "chunk": (CHUNK, m.Role.submitter),
    "chunk-added": (
        replace(CHUNK, chunk="7", tasks=(ADDED, STEP_CALL, COLLECTING), values={"ab" * 32: STORED}, header=None, seal=None),
        m.Role.submitter,
    ),
    "reply": (REPLY, m.Role.worker),
    "hello": (m.Hello("worker-1", "boot-1", "host", 42, "0.1.0", HAS, HAS, (HELD,), draining=True), m.Role.worker),
    "heartbeat": (m.Heartbeat("worker-1", "boot-1", HAS, (HELD,), draining=True), m.Role.worker),
    "goodbye": (m.Goodbye("worker-1", "boot-1"), m.Role.worker),
    "token": (m.Token("worker-1", "boot-1"), m.Role.worker),
    "welcome": (m.Welcome("worker-1", "boot-1", (CLASS,), (REVOCATION,)), m.Role.coordinator),
    "welcome-of-a-partition": (m.Welcome("worker-1", "boot-1", (CLASS,), forgotten=(JOB,), partition=1), m.Role.coordinator),
    "class-opened": (m.ClassOpened(CLASS), m.Role.coordinator),
    "revoked": (m.Revoked((REVOCATION,)), m.Role.coordinator),
    "hello-with-steps": (m.Hello("worker-1", "boot-1", "host", 42, "0.2.0", HAS, HAS, steps=(STEP,)), m.Role.worker),
    "hello-in-a-team": (m.Hello("worker-1", "boot-1", "host", 42, "0.2.0", HAS, HAS, teams=True, seat=SEAT), m.Role.worker),
    "heartbeat-of-classes": (m.Heartbeat("worker-1", "boot-1", HAS, used=("cpus1-3f2a91c0", "gpu")), m.Role.worker),
    "heartbeat-in-a-team": (m.Heartbeat("worker-1", "boot-1", HAS, seat=SEAT), m.Role.worker),
    "team-asked": (m.TeamAsked("worker-1", "boot-1", SEAT.team, complete=True), m.Role.coordinator),
    "drain-asked": (m.DrainAsked("worker-1", "boot-1", stop=True, reason="a new kernel"), m.Role.coordinator),
    "hello-asked": (m.HelloAsked("coordinator-1"), m.Role.coordinator),
    "jobs-forgotten": (m.JobsForgotten((JOB,)), m.Role.coordinator),
    "output-asked": (
        m.OutputAsked("r1", "client-1", "boot-1.1", stderr=True, path="/spool/1", start=70_000, most=2**20, wait_ms=5000),
        m.Role.coordinator,
    ),
    "job-news": (m.JobNews(INFO), m.Role.coordinator),
    **{f"request-{name}": (m.Request("r1", "client-1", question, 99), m.Role.submitter) for name, question in QUESTIONS.items()},
    **{f"response-{name}": (m.Response("r1", answer), m.Role.coordinator) for name, answer in ANSWERS.items()},
}
