"""docs/observe.md: how to watch an installation, with the table of its metrics as the code has it."""

from __future__ import annotations

from sync_tasks.observe.families import FAMILIES, NODE, TASK

HEAD = """# Watching an installation

| what | where |
|---|---|
| a task | `keyferry task list --watch`, `task show`, `task events` ([cli.md](cli.md)) |
| workers and jobs | Flower: `keyferry up --flower`, `keyferry flower` |
| what a process says | its log: in DIR/logs under `keyferry up`, else on stderr |
| what asks what of whom, and how long it takes | traces, by OpenTelemetry |
| numbers over time, alerts | Prometheus: `keyferry up --metrics-port N`, `keyferry metrics` |

## Metrics

```sh
keyferry up --metrics-port 9754     # beside everything else
keyferry metrics                    # or as a process of its own, on any host that reaches the database
curl http://127.0.0.1:9754/metrics
```

They are read from the database when they are scraped: at most eight queries, however many tasks there are. Nothing
counts them on the way of the data, and they do not begin from 0 when a worker is replaced. Every endpoint tells of all
tasks; only the spool is that of its own host. Have one on each host that has a spool, and take `max by (...)` of what
several tell of one task, as the dashboard and the alerts do. What is not known has no sample: unknown is never 0.

The endpoint listens on the loopback address unless `metrics_address` says otherwise, and asks for no password. Labels
hold names of accounts and tasks, and numbers of nodes; no address of a server, no secret.

Offsets are gauges, although they grow: one that falls back by some bytes when a server fails over would count as a
reset of a counter, and `rate` would add all of it. Take `deriv` of them. Where a worker is dead there is no delay:
`keyferry_stream_owned`, or beats that stand still, say so.
"""
TAIL = """
## Prometheus and Grafana

`deploy/observe` holds what to begin with: `prometheus.yml`, `alerts.yml`, and a dashboard of Grafana with its
provisioning.

```sh
prometheus --config.file=deploy/observe/prometheus.yml
```

| alert | when |
|---|---|
| `KeyferryTaskFailed` | a task has failed |
| `KeyferryRetryWindowOpen` | for a minute something has failed and is tried again |
| `KeyferryRetryWindowCloses` | in under five minutes the task fails by it |
| `KeyferryDelayHigh` | the target has been over a minute behind for two |
| `KeyferryWorkerGone` | nobody has given a sign of life for a stream that is wanted, for a minute |
| `KeyferryChunksNotLoaded` | chunks have waited for five minutes, and none is being loaded |
| `KeyferryStreamChangesHands` | over five times in a quarter of an hour |
| `KeyferrySnapshotAgain` | over two snapshots in six hours |
| `KeyferryVerificationDifferences` | the last verification found what was not repaired |
| `KeyferrySpoolNearlyFull` | under a tenth of a spool's file system is free |
| `KeyferryNoLeader` | no scheduler has given a sign of life for a minute |
| `KeyferryDatabaseAway` | a host cannot reach the database |
| `KeyferryMetricsGone` | an endpoint cannot be scraped |

## Logs

`--log-format json` (`KEYFERRY_LOG_FORMAT=json`, which also holds for the children of `keyferry sync`) writes one object
a line, lines of libraries included; the usual form is for people.

```json
{"level": "warning", "logger": "keyferry.tasks", "process": 4711, "task": "orders-move", "task_id": 3, "node": 0,
 "offset": 918273, "event": "stream of node 5 ended: target: connection lost", "timestamp": "2026-01-01T12:00:00Z"}
```

`task`, `task_id`, `node`, `offset` (of the target's checkpoint, as last reported), `chunk` (snapshot/number) and
`operation` say what the process was at; an `exception` is there with its traceback. Secrets are hidden as `***`: what
is one by its type, user parts of URLs, values named `password`, `token` and the like, and every password and key that
the settings hold, wherever it stands. The embedded broker writes a log of its own, `broker.log`, in its own form.

## Traces

With `traces_endpoint` (`KEYFERRY_TRACES_ENDPOINT=http://127.0.0.1:4318/v1/traces`, OTLP over HTTP) the control plane
sends spans to an OpenTelemetry collector: `pip install 'keyferry[traces]'`. Without it nothing is imported and nothing
made. The data plane makes none: its work is numbers, above.

| span | what it is |
|---|---|
| `client.<verb>` | a verb of a client, or of `keyferry task`, that asks for something; verbs that only look make none |
| `scheduler.send` | messages that were due, sent |
| `scheduler.free` | work taken from owners that are silent |
| `ops.run` | an operation that a worker carries out: precheck, restart, release, modify, finish, verify and its parts |
| `load.chunk` | a chunk loaded |
| `stream.follow` | a stream followed, for as long as its shift lasts; it is sent when that ends |

A verb, the operation that it asks for, and the worker that carries it out are one trace, whatever becomes of the
messages in between: how it goes on stands in the operation's row. What a message brings to a worker goes on with the
trace of the scheduler that sent it. Attributes are `keyferry.task`, `task_id`, `node`, `chunk` and `operation`; a span
that failed has the error's line, and its code as `keyferry.error`. Within a program that has OpenTelemetry set up,
spans of its client go on with the program's own.
"""


def page() -> str:
    """The page."""
    lines = [HEAD, "| metric | type | labels | what it is |", "|---|---|---|---|"]
    for family in FAMILIES:
        lines.append(f"| `{family.name}` | {family.kind} | {_labels(family.labels)} | {family.help} |")
    lines += ["", f"*task* stands for {_plain(TASK)}; *node* for these and `node`, its number within the task."]
    return "\n".join(lines) + "\n" + TAIL


def _labels(labels: tuple[str, ...]) -> str:
    for whole, name in ((NODE, "node"), (TASK, "task")):
        if labels[: len(whole)] == whole:
            return ", ".join([f"*{name}*", *(f"`{label}`" for label in labels[len(whole) :])])
    return _plain(labels)


def _plain(labels: tuple[str, ...]) -> str:
    return ", ".join(f"`{label}`" for label in labels)
