"""What the OpenAPI document tells beside what FastAPI knows of the routes: the shapes of answers, and which errors a
route may give. Pure."""

import re
from typing import Any

from lsh_systemd.api.access import OPEN
from lsh_systemd.api.problems import CONTENT
from lsh_systemd.jobfile import FIELDS
from lsh_systemd.jobschema import WORDS

# The shapes, as "name:kind": text, time (RFC 3339), number, integer, flag, table, any or another shape; [] is a list of
# such, ? null or such. Each field is always there; in a later version there may be more of them.
_RUN = (
    "id:text job:text host:text trigger:text? triggered_by:text? attempt:integer first_id:text? due_at:time? "
    "started_at:time? ended_at:time? duration_seconds:number? result:text? reason:text? exit_status:integer? "
    "signal:text? cpu_seconds:number? memory_peak_bytes:integer? io_read_bytes:integer? io_write_bytes:integer? "
    "message:text? metrics:table progress:any output_bytes:integer"
)
_JOB = (
    "id:text name:text? schedule:text? timezone:text? command:text? enabled:flag state:text status:text next:time? "
    "progress:any last_run:Run? transient:flag changed:flag category:text? tags:text[]"
)
_STATUS = (
    "running:flag pid:integer uptime:number memoryUsage:table version:text scope:text systemd:text agent:text "
    "jobs:integer role:text"
)
_REPORT = (
    "since:time? until:time? runs:integer successes:integer skipped:integer retries:integer success_rate:number? "
    "duration_p50:number? duration_p95:number? duration_p99:number? duration_mean:number? duration_max:number? "
    "cpu_seconds_mean:number? cpu_seconds_sum:number? memory_peak_max:integer? wait_mean:number? wait_max:number? "
    "runs_per_hour:number? first_run:time? last_run:time? longest_silence:number? results:table "
    "failures_by_result:table failures:table[] metrics:table trend:table before:any"
)
_SHAPES = {
    "Alert": "rule:text target:text event:text job:text? run:text? created_at:time? title:text body:text state:text "
    "done_at:time? error:text?",
    "AlertRule": "name:text tells_of:text[] jobs:text[] to:text[]",
    "Change": "id:text at:time? job:text? before:text? verb:text actor:text? uid:integer? via:text? difference:table",
    "Coming": "id:text next:time[]",
    "CronInsights": "insights:Insight[]",
    "CronMetrics": "overall:Overall? jobs:Report[]",
    "CronQueue": "processing:integer pending:integer jobs:Place[]",
    "CronReset": "success:flag resetCount:integer jobs:table[] timestamp:time",
    "CronStarted": "success:flag status:text resumed:text[] problems:text[]",
    "CronStatus": _STATUS + " isRunning:flag paused:integer activeJobs:text[] pendingJobs:integer config:table",
    "CronStopped": "success:flag status:text paused:text[]",
    "CronTriggered": "success:flag status:text",
    "Definition": "id:text status:text definition:table files:table warnings:text[]",
    "Explanation": "expression:text timezone:text calendar:text[] next:time[] description:text warnings:text[]",
    "Health": "status:text service:text version:text active_commands:integer problems:text[] warnings:text[] "
    "timestamp:time",
    "Insight": "job:text kind:text weight:integer message:text command:text",
    "Job": _JOB,
    "JobDetails": _JOB + " definition:any unit_files:text[] drop_ins:text[] problem:text? etag:text",
    "JobDone": "id:text status:text",
    "JobMade": "id:text status:text next:time? warnings:text[]",
    "JobStarted": "id:text status:text run_id:text? queued:flag",
    "JobStopped": "id:text status:text was_running:flag",
    "Line": "at:time? message:text? priority:text? identifier:text? run_id:text? cursor:text?",
    "Overall": "job:any longest_silence_job:text? " + _REPORT,
    "Place": "job:text state:text position:integer? since:time? trigger:text? waits_for:text?",
    "Report": "job:text " + _REPORT,
    "Row": "",  # of the fleet: as its tables have it
    "Run": _RUN,
    "RunWithOutput": _RUN + " output:text",
    "Secret": "name:text changed_at:time? encrypted:flag",
    "Status": _STATUS,
    "Template": "id:text description:text category:text? source:text? needs:text[] parameters:table[] job:table",
}
_KINDS: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "time": {"type": "string", "format": "date-time"},
    "number": {"type": "number"},
    "integer": {"type": "integer"},
    "flag": {"type": "boolean"},
    "table": {"type": "object"},
    "any": {},
}
# A span is as systemd reads it, a size has a suffix; both may be numbers. null is the same as nothing.
_FIELDS: dict[str, dict[str, Any]] = {
    "text": {"type": ["string", "null"]},
    "texts": {"type": ["string", "array", "null"], "items": {"type": "string"}},
    "command": {"type": ["string", "array"], "items": {"type": "string"}},
    "table": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
    "flag": {"type": ["boolean", "null"]},
    "number": {"type": ["integer", "null"]},
    "numbers": {"type": ["integer", "array", "null"], "items": {"type": "integer"}},
    "size": {"type": ["integer", "string", "null"], "examples": ["512M"]},
    "span": {"type": ["integer", "string", "null"], "examples": ["1h 30m"]},
    "wall_time": {"type": ["string", "null"], "examples": ["2027-01-31T02:00:00"]},
    "instant": {"type": ["string", "null"], "examples": ["2027-01-31T02:00:00Z"]},
}
_TOLD = {
    400: "What is asked for cannot be: `detail` says why, `hint` what would do.",
    401: "A key is needed, or it is not known, or not any more.",
    403: "The key is good, but not for this, or the machine's policy does not allow it.",
    404: "There is no such thing, or not for this key.",
    409: "It is not as the caller thought: it is there already, or is being worked on.",
    412: "`If-Match` names another version.",
    413: "The body is too large.",
    422: "A parameter or the body is not of the form that this document gives.",
    428: "A change needs `If-Match`.",
    429: "Too many wrong keys from this address: `Retry-After` says when to come back.",
    502: "Supabase did not do it.",
    503: "It cannot be done now.",
}
_PLACE = re.compile(r"{(\w+)}")


def gives(shape: str, *errors: int, many: bool = False, status: int = 200) -> dict[int | str, dict[str, Any]]:
    """A route's ``responses``: what it answers, and which errors of its own it may give."""
    told = {"application/json": {"schema": {"type": "array", "items": _ref(shape)} if many else _ref(shape)}}
    return {status: {"content": told}} | may_fail(*errors)


def may_fail(*errors: int) -> dict[int | str, dict[str, Any]]:
    return {each: {"description": _TOLD[each], "content": CONTENT} for each in errors}


def fields_of_jobs() -> dict[str, Any]:
    """The properties of a job as the API takes it."""
    told = {name: _FIELDS[kind] for name, kind in FIELDS.items() if name != "applied"}
    return told | {name: {"enum": [*words, None]} for name, words in WORDS.items()}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The document as FastAPI makes it, with shapes, errors and links between the paths."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= {name: _object(text) for name, text in _SHAPES.items()}
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    places = {"job_id": [], "run_id": []}  # type: dict[str, list[str]]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _tell_errors(path, operation)
            for name in places.keys() & _PLACE.findall(path):
                places[name].append(operation["operationId"])
    of_job = _links("job_id", "$response.body#/id", places["job_id"])
    for verb in ("patch", "delete"):
        operation = document["paths"]["/jobs/{job_id}"][verb]["operationId"]
        of_job[operation]["parameters"]["If-Match"] = "$response.header.ETag"
    document["paths"]["/jobs"]["post"]["responses"]["201"]["links"] = of_job
    of_run = _links("run_id", "$response.body#/run_id", places["run_id"])
    for verb in ("trigger", "start", "restart"):
        document["paths"][f"/jobs/{{job_id}}/{verb}"]["post"]["responses"]["200"]["links"] = of_run
    return document


def _tell_errors(path: str, operation: dict[str, Any]) -> None:
    errors = {401, 403, 429} if operation["x-role"] != OPEN else set()
    if "{" in path or any(each["name"] == "job" for each in operation.get("parameters", ())):
        errors.add(404)
    if operation.get("parameters") or "requestBody" in operation:
        errors |= {400, 422}
    if "requestBody" in operation:
        errors.add(413)
    told = may_fail(*sorted(errors))
    operation["responses"] |= {str(status): response for status, response in told.items()}


def _links(parameter: str, value: str, operations: list[str]) -> dict[str, Any]:
    return {each: {"operationId": each, "parameters": {parameter: value}} for each in operations}


def _object(fields: str) -> dict[str, Any]:
    kinds = dict(each.split(":") for each in fields.split())
    properties = {name: _kind(kind) for name, kind in kinds.items()}
    return {"type": "object", "required": list(kinds), "properties": properties}


def _kind(kind: str) -> dict[str, Any]:
    if kind.endswith("[]"):
        return {"type": "array", "items": _kind(kind[:-2])}
    if kind.endswith("?"):
        return {"anyOf": [_kind(kind[:-1]), {"type": "null"}]}
    return _KINDS[kind] if kind in _KINDS else _ref(kind)


def _ref(shape: str) -> dict[str, Any]:
    assert shape in _SHAPES, shape
    return {"$ref": f"#/components/schemas/{shape}"}
