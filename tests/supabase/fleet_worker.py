"""A host that works on the queue, for tests to kill: `python -m tests.supabase.fleet_worker URL HOST FILE SLOTS LEASE`,
the key in SUPABASE_KEY. A run is a short while; what FILE says of it is the truth: "begin TOKEN ID USER TIME", "end …".
"""

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from lsh_systemd.remote import Remote, RemoteAway, Target


def main(url: str, host: str, file: str, slots: str, lease: str) -> None:
    remote = Remote(Target(url=url, key=os.environ["SUPABASE_KEY"]), timeout_seconds=20)
    told = [line.split() for line in Path(file).read_text().splitlines()] if Path(file).exists() else []
    begun, done = ({each[1] for each in told if each[0] == kind} for kind in ("begin", "end"))
    # Of its life before, it knows what the file knows: what has begun and not ended died with it.
    ended: dict[int, str] = {int(token): "success" if token in done else "lost" for token in begun}
    running: dict[int, tuple[dict[str, Any], float]] = {}
    with Path(file).open("a") as truth:

        def note(kind: str, row: dict[str, Any]) -> None:
            truth.write(f"{kind} {row['token']} {row['id']} {row['user']} {time.time():.6f}\n")
            truth.flush()

        while True:
            request = {
                "p_host": host, "p_name": host[:8], "p_scope": "system", "p_slots": int(slots) - len(running),
                "p_offers": {"job": 100}, "p_running": list(running), "p_lease_seconds": float(lease),
                "p_ended": [{"token": token, "result": result} for token, result in ended.items()],
            }  # fmt: skip
            try:
                answer = remote.rpc("lsh_queue_step", request)
            except RemoteAway:
                continue
            ended.clear()
            for row in answer["run"]:
                note("begin", row)
                running[row["token"]] = (row, time.monotonic() + random.uniform(0.005, 0.05))
            for token in answer["gone"]:
                del running[token]
            time.sleep(0.01)
            for token, (row, until) in list(running.items()):
                if time.monotonic() >= until:
                    note("end", row)
                    ended[token] = "success"
                    del running[token]


if __name__ == "__main__":
    main(*sys.argv[1:])
