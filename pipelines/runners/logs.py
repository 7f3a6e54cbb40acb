"""What workers tell the log: one event a line.

On a cluster each event is a JSON object at level INFO, for the runner's log (Dataflow shows it in Cloud Logging). On
one machine nothing is shown but progress, unless VISENT_LOG asks for events on standard error, "plain" or as "json".
"""

import json
import logging
import os
import sys
import time
from typing import Any

from visent.errors import UserError, unknown

VARIABLE = "VISENT_LOG"
FORMS = ("json", "plain")

_log = logging.getLogger("visent")


def _form() -> str:
    """Returns the form that is asked for, or "".

    Raises: `UserError` for one that does not exist.
    """
    form = os.environ.get(VARIABLE, "")
    if form and form not in FORMS:
        raise UserError(f"environment variable {VARIABLE}: {unknown('form', form, FORMS)}")
    return form


def keep_quiet() -> None:
    """Keeps what Beam logs off the screen of a local run.

    Beam's import warns of parts nobody needs, and its errors come as tracebacks. VISENT_TRACEBACK shows them.

    Raises: `UserError` when VISENT_LOG is none of its forms.
    """
    _form()
    if not os.environ.get("VISENT_TRACEBACK"):
        logging.disable(logging.CRITICAL)


def tell(event: str, *, failed: bool = False, **fields: Any) -> None:
    """Logs an event with its fields, JSON values."""
    form = _form()
    if form:
        print(_plain(event, fields) if form == "plain" else _json(event, fields), file=sys.stderr, flush=True)
    else:
        _log.log(logging.ERROR if failed else logging.INFO, "%s", _json(event, fields))


def _json(event: str, fields: dict[str, Any]) -> str:
    return json.dumps({"event": event, **fields}, ensure_ascii=True)


def _plain(event: str, fields: dict[str, Any]) -> str:
    """Writes `time event: name value, name value`; what is empty is left out."""
    told = (f"{name} {_value(value)}" for name, value in fields.items() if value not in ("", None, {}, 0))
    return f"{time.strftime('%H:%M:%S')} {event}: {', '.join(told)}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{name} {_value(inner)}" for name, inner in value.items()) + ")"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
