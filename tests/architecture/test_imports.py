"""Nothing happens at import: no environment, no socket, no thread, no file written."""

import subprocess
import sys

from tests.architecture.tree import ROOT, modules

PROBE = """
import importlib, os, socket, sys, threading

def refuse(*_, **__): raise AssertionError("opens a socket at import")

ours = tuple(sys.argv[2].split(","))

import msgspec, psycopg, psycopg_pool, nats, litestar, structlog, httpx, polars, typer, rich, pytest, hypothesis

socket.socket.connect = refuse
socket.socket.bind = refuse
n_threads = threading.active_count()
reads = []
original = os.environ.__class__.__getitem__

def watched(self, name):
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.split(".")[0] in ours:
            reads.append((module, name))
            break
        if module.startswith("importlib") or not module.startswith(("os", "collections")):
            break
        frame = frame.f_back
    return original(self, name)

os.environ.__class__.__getitem__ = watched
failed = []
for name in sys.argv[1].split(","):
    try:
        importlib.import_module(name)
    except BaseException as error:
        failed.append(f"{name}: {type(error).__name__}: {error}")
print("\\n".join(failed + [f"{module} reads {name} at import" for module, name in reads]
    + ([f"{threading.active_count() - n_threads} threads started"] if threading.active_count() > n_threads else [])))
"""


def test_every_module_imports_without_doing_anything() -> None:
    """With an empty environment and sockets blocked, every module can be imported."""
    names = [name for name in modules() if not name.endswith("__main__") and name.split(".")[-1] != "_launch"]
    ours = sorted({name.split(".")[0] for name in names})
    path = ":".join([str(ROOT), *sorted(str(lib) for lib in (ROOT / "libs").iterdir() if lib.is_dir())])
    result = subprocess.run(
        [sys.executable, "-c", PROBE, ",".join(names), ",".join(ours)],
        cwd=ROOT,
        env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() + result.stderr.strip() == ""
