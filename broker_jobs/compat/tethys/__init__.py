"""The Jobs API of Tethys: a program moves by importing from here instead of from ``tethys_sdk``.

``tethys_sdk.jobs``, ``.compute``, ``.base`` and ``.workspaces`` are modules here, with the names of the document of 2016 (templates) and
of today's program (types of jobs). docs/faces.md lists what is different. Where Tethys has a fault, ours is right:

- a failing `process_results` leaves the status Error, not Complete; the results are processed once, whoever asks
- `resubmit` begins with new status, times and message, so that what looks at it goes on
- a custom status is no end unless it was declared as one
- the first update comes at once, however young the job is
- an end stays: news that comes late never revives a job
- where `execute` fails, `status_message` says why
- a type and parameters of a template may be left out; parameters of the call go before those of the template
- `groups` takes several; `filters` stays as it was given
- deleting a job removes its own folder, never the workspace of its user
- paths with backslashes can stand for a variable
"""
