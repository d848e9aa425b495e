"""A broker in one SQLite file, shared by the processes of one host: no server, nothing to start.

Theory of operation.

- **One file is the broker.** Every change is one short transaction on it, so a publish to several queues happens as a whole
  (nothing above may rely on that: RabbitMQ does not promise it). The file is in WAL mode: readers never wait.
  ``synchronous=NORMAL`` survives the end of any process, not the end of the power; ``?durability=power`` is ``FULL``.
- **Writers queue on an flock** of the file ``<file>-lock`` before ``BEGIN IMMEDIATE``, because SQLite's own busy handler
  sleeps in growing steps. Work is done on the event loop's thread, in transactions of about 0.1 ms: what is published and
  settled within one turn of the loop shares one, and what the connection may receive is claimed in the same.
  A lock that stays taken blocks the loop for 5 ms at a time; between, the loop runs on, and a timer tries again.
- **A message** is one row in `bodies`, whose number is its place in line, and one small row in `messages` for each queue that
  has it. `holder` is the connection that has received and not settled it. What goes back loses its holder and keeps its place:
  it stands at the head again. A private queue is read without being claimed: nobody else may have what is there, so its
  connection keeps a bookmark, and writes when it settles.
- **Nobody polls for messages.** Each connection has a datagram socket with an abstract address (which the kernel removes with
  the process), written down in `connections`; whoever commits something for a queue sends one byte to its consumers. The byte
  says nothing but "look": a lost one costs at most the half second until the next `tick`, a forged one a look. A ledger is told
  20 ms later of what went into a queue of tasks, too, and of answers to calls: meanwhile those have processors and lock.
- **A connection lives as long as its lock**: byte number *id* of ``<file>-lock``, an open file description lock, which the
  kernel drops when the process ends, however it ends. Peers hear of the end through a pidfd within milliseconds and confirm it
  by the lock; each `tick` looks at the locks as well. Whoever holds the write lock first deletes the row in `connections`, and
  in the same transaction gives back what the dead one held, deletes its private queues and routes its token to the dead-letter
  exchange: once, however many noticed. Connections of an earlier run are found dead when the next one opens.
- **The lock belongs to the process that opened it.** It is closed on exec, and in a child that forks it is closed at once
  (`os.register_at_fork`). A C extension that forks by itself, without Python's knowledge, would keep the lock, and
  with it the connection, alive until that child ends.
- **A connection is lost** when its row is gone (a peer took it for dead, which happens when somebody deletes the lock file), when
  the file is not where it was, or when SQLite reports damage. It is then made anew, under a new generation, for ever.
  A full disk is no loss: `blocked` says so, and the work waits.
- **Who knows the routes**: exchanges, queues and bindings carry one version number, consumers and connections another, both in
  the row `state`, read at the start of each transaction. Behind an unchanged version, queues of (exchange, key) are remembered.

The number of a connection and of a message is never used again (AUTOINCREMENT), so nothing old can be taken for something new.
"""

from broker_jobs.broker.embedded.broker import EmbeddedBroker

__all__ = ["EmbeddedBroker"]
