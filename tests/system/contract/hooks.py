"""What schemathesis does before each request: it comes from somewhere else every time, as the check for wrong keys
would be told to wait else. (Hypothesis has `random` repeat itself.)"""

import secrets
from typing import Any

import schemathesis


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    address = ".".join(str(1 + secrets.randbelow(254)) for _ in range(4))
    case.headers = {**(case.headers or {}), "X-Forwarded-For": address}
