"""`causeloop clients` and `causeloop provision-key`, against a real database."""

import asyncio
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from runtime.embedded import EmbeddedPostgres
from testkit import servers
from testkit.servers import Database

from services.gateway.identity.migrate import MIGRATIONS
from tests.libs.cli import in_process

HEADER = "org_name,org_slug,owner_email,owner_name,workspace_name,plan,timezone,seats\n"


@pytest.fixture(scope="module")
def migrated(postgres_server: EmbeddedPostgres) -> Iterator[Database]:
    """A database with the identity schema, to be copied."""
    with servers.database(postgres_server) as made:
        asyncio.run(MIGRATIONS.apply(made.owner_url))
        yield made


@pytest.fixture
def operator(postgres_server: EmbeddedPostgres, migrated: Database) -> Iterator[Database]:
    """A fresh database with the identity schema."""
    with servers.database(postgres_server, template=migrated.name) as fresh:
        yield fresh


def causeloop(database: Database, *arguments: str, cwd: Path) -> in_process.Shown:
    return in_process.causeloop(*arguments, cwd=cwd, DATABASE_OWNER_URL=database.owner_url, COLUMNS="200")


def rows(database: Database, statement: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(database.owner_url, options="-c search_path=identity") as conn:
        return conn.execute(statement).fetchall()


def test_a_file_of_clients_is_made_in_one_transaction(operator: Database, tmp_path: Path) -> None:
    """Empty cells have the defaults of onboard_client(); one person may own several."""
    (tmp_path / "clients.csv").write_text(
        "\ufeff" + HEADER + "Acme Inc,acme,ana@x.example,Ana,Payments,growth,Europe/Berlin,40\n"
        '"Bolt, Ltd",bolt,ana@x.example,,,,,\n'
        "Corp,corp,bo@x.example,,,enterprise,,unlimited\n"
    )
    done = causeloop(operator, "clients", "onboard", "clients.csv", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [(client["line"], client["slug"]) for client in report["made"]] == [
        (2, "acme"),
        (3, "bolt"),
        (4, "corp"),
    ]
    assert report["problems"] == []
    assert report["made"][0]["owner_user_id"] == report["made"][1]["owner_user_id"]
    assert rows(
        operator,
        "SELECT o.slug, o.name, o.plan, o.seats_total, w.name, w.timezone FROM organizations AS o"
        " JOIN workspaces AS w USING (organization_id) ORDER BY o.slug",
    ) == [
        ("acme", "Acme Inc", "growth", 40, "Payments", "Europe/Berlin"),
        ("bolt", "Bolt, Ltd", "free", 10, "Bolt, Ltd", "UTC"),
        ("corp", "Corp", "enterprise", None, "Corp", "UTC"),
    ]
    assert rows(operator, "SELECT count(*) FROM outbox") == [(3,)]


def test_one_wrong_line_makes_nothing_and_every_wrong_line_is_told(
    operator: Database, tmp_path: Path
) -> None:
    """With its number in the file, and what to do; lines that span several are counted where they end."""
    (tmp_path / "good.csv").write_text("org_name,org_slug,owner_email\nTaken,taken,a@x.example\n")
    assert causeloop(operator, "clients", "onboard", "good.csv", cwd=tmp_path).returncode == 0
    (tmp_path / "clients.csv").write_text(
        HEADER + "Acme,acme,ana@x.example,,,,,\n"
        "Taken again,taken,ana@x.example,,,,,\n"
        "Acme twice,acme,ana@x.example,,,,,\n"
        ",,ana@x.example,,,,,\n"
        "Bolt,Bolt!,ana@x.example,,,,,\n"
        "Corp,corp,nobody,,,,,\n"
        "Corp,corp-2,ana@x.example,,,gold,,\n"
        "Corp,corp-3,ana@x.example,,,free,Mars/Base,\n"
        "Corp,corp-4,ana@x.example,,,free,,many\n"
        "Corp,corp-5,ana@x.example,,,free,,11\n"
        "Corp,corp-6,ana@x.example,,,free,,5,more\n"
    )
    done = causeloop(operator, "clients", "onboard", "clients.csv", "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["made"] == []
    expected = {
        3: "slug is taken",
        4: "Line 2",
        5: "Fill in org_name, org_slug",
        6: "org_slug",
        7: "owner_email",
        8: "no plan gold",
        9: "Mars/Base",
        10: "seats",
        11: "10 seats at most",
        12: "more cells",
    }
    assert [problem["line"] for problem in report["problems"]] == list(expected)
    for problem in report["problems"]:
        assert expected[problem["line"]] in problem["advice"]
    assert rows(operator, "SELECT slug FROM organizations") == [("taken",)]
    assert rows(operator, "SELECT email FROM users") == [("a@x.example",)]
    shown = causeloop(operator, "clients", "onboard", "clients.csv", cwd=tmp_path)
    assert "Nothing was made: 10 of 11 lines are wrong." in shown.stderr
    assert "Mars/Base is no IANA time zone" in shown.stdout


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "lacks org_name, org_slug, owner_email"),
        ("org_name,org_slug\n", "lacks owner_email"),
        ("org_name,org_slug,owner_email,colour\n", "unknown columns 'colour'"),
    ],
)
def test_a_file_with_another_header_is_refused_whole(
    operator: Database, tmp_path: Path, content: str, says: str
) -> None:
    """Before the database is asked."""
    (tmp_path / "clients.csv").write_text(content)
    done = causeloop(operator, "clients", "onboard", "clients.csv", cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert says in done.stderr


def test_a_client_is_listed_shut_out_and_let_in_again(operator: Database, tmp_path: Path) -> None:
    """By its slug; one that is not there is an error that says where to look."""
    (tmp_path / "clients.csv").write_text("org_name,org_slug,owner_email\nAcme,acme,ana@x.example\n")
    assert causeloop(operator, "clients", "onboard", "clients.csv", cwd=tmp_path).returncode == 0
    gone = causeloop(operator, "clients", "offboard", "acme", "--reason", "unpaid", cwd=tmp_path)
    assert (gone.returncode, "acme is shut out" in gone.stdout) == (0, True), gone.stderr
    [client] = json.loads(causeloop(operator, "clients", "list", "--json", cwd=tmp_path).stdout)
    assert (client["slug"], client["status"], client["seats_used"], client["seats_total"]) == (
        "acme",
        "cancelled",
        1,
        10,
    )
    back = causeloop(operator, "clients", "reinstate", "acme", cwd=tmp_path)
    assert back.returncode == 0, back.stderr
    assert "active" in causeloop(operator, "clients", "list", cwd=tmp_path).stdout
    for slug, domain, code in (
        ("acme", "Acme.example", 0),
        ("acme", "nonsense", 2),
        ("nobody", "a.example", 2),
    ):
        approved = causeloop(operator, "clients", "approve-domain", slug, domain, cwd=tmp_path)
        assert approved.returncode == code, approved.stderr
    unknown = causeloop(operator, "clients", "offboard", "nobody", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "nobody" in unknown.stderr and "clients list" in unknown.stderr


def test_a_provisioning_key_comes_with_its_hash(operator: Database, tmp_path: Path) -> None:
    """Another each time, long enough to guess nothing."""
    made = [json.loads(causeloop(operator, "provision-key", "--json", cwd=tmp_path).stdout) for _ in range(2)]
    assert made[0]["key"] != made[1]["key"]
    for one in made:
        assert one["key"].startswith("clp_admin_") and len(one["key"]) >= 50
        assert one["hash"] == sha256(one["key"].encode()).hexdigest()


def test_the_audit_logs_are_verified_and_the_first_fault_is_named(operator: Database, tmp_path: Path) -> None:
    """Exit code 1 with the number of the entry; the other client's log is as it was."""
    (tmp_path / "clients.csv").write_text(
        "org_name,org_slug,owner_email\nAcme,acme,a@x.example\nBolt,bolt,a@x.example\n"
    )
    assert causeloop(operator, "clients", "onboard", "clients.csv", cwd=tmp_path).returncode == 0
    done = causeloop(operator, "audit", "verify", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)
    assert [(each["slug"], each["entries"], each["problem"]) for each in verdicts] == [
        ("acme", 1, None),
        ("bolt", 1, None),
    ]
    with psycopg.connect(operator.owner_url, options="-c search_path=identity") as conn:
        conn.execute("ALTER TABLE audit_log DISABLE TRIGGER USER")
        conn.execute(
            "UPDATE audit_log SET action = 'x.y' WHERE workspace_id = %s", (verdicts[0]["workspace_id"],)
        )
    done = causeloop(operator, "audit", "verify", cwd=tmp_path)
    assert done.returncode == 1
    assert "entry 1 was changed" in done.stdout and "intact" in done.stdout
    one = causeloop(operator, "audit", "verify", "--workspace", verdicts[1]["workspace_id"], cwd=tmp_path)
    assert one.returncode == 0, one.stdout
    assert causeloop(operator, "audit", "verify", "--workspace", "ws_none", cwd=tmp_path).returncode == 2


def test_an_erasure_takes_the_slug_twice_and_waits_for_a_gateway(operator: Database, tmp_path: Path) -> None:
    """Without a gateway it is asked for, shut, and not finished."""
    (tmp_path / "clients.csv").write_text("org_name,org_slug,owner_email\nAcme,acme,a@x.example\n")
    assert causeloop(operator, "clients", "onboard", "clients.csv", cwd=tmp_path).returncode == 0
    done = causeloop(operator, "clients", "erase", "acme", "--confirm", "bolt", cwd=tmp_path)
    assert done.returncode == 2
    assert rows(operator, "SELECT count(*) FROM erasures") == [(0,)]
    assert (
        causeloop(operator, "clients", "erase", "nobody", "--confirm", "nobody", cwd=tmp_path).returncode == 2
    )
    for _ in range(2):
        done = causeloop(
            operator, "clients", "erase", "acme", "--confirm", "acme", "--wait", "0", cwd=tmp_path
        )
        assert done.returncode == 1, done.stderr
        assert "Not finished yet" in done.stderr
    assert rows(operator, "SELECT status FROM workspaces") == [("suspended",)]
    assert rows(operator, "SELECT event_type FROM outbox ORDER BY outbox_id") == [
        ("WorkspaceCreated",),
        ("WorkspaceSuspended",),
        ("WorkspaceErased",),
    ]
    assert rows(operator, "SELECT status, certificate FROM erasures") == [("executing", None)]
