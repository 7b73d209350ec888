"""Letters against a real SMTP server, and their way through the queue."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default as modern
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from runtime import database as databases
from runtime.database import Pool, tenant
from runtime.embedded import free_port
from runtime.errors import StartError
from runtime.sealing import MasterKeys, SealingKey
from testkit.servers import Database
from testkit.waiting import eventually

from services.gateway.identity.people import _queries, invitations
from services.gateway.identity.people.acting import Act
from services.gateway.identity.people.letters import invitation_letter, one_line
from services.gateway.identity.people.postbox import ATTEMPTS_MAX, LEASE_SECONDS, Postbox
from services.gateway.identity.scopes import ROLES
from services.gateway.identity.tokens import Principal
from services.gateway.identity.vault.keys import Vault
from services.gateway.mail import CAUGHT_MAX, Catcher, Letter, MailError, Smtp, read_smtp_url
from services.gateway.settings import GatewaySettings, check
from tests.services.gateway.tenants import Tenant, execute, onboard

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SENDER = "Causeloop <causeloop@mail.example>"
READY_SECONDS = 60.0
"""How long a server may take to start; the library's five are too few on a machine that is busy."""
LETTER = Letter(to="ada@acme.example", subject="Grüße", text="Text\n", html="<p>Text</p>")


class Inbox:
    """What the server was told, and what it answers to each letter."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []
        self.was_encrypted: list[bool] = []
        self.reply = "250 OK"
        self.recipient_reply = "250 OK"

    async def handle_RCPT(  # noqa: N802  # the library's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if self.recipient_reply.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.recipient_reply

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  # likewise
        assert isinstance(envelope.content, bytes)
        if self.reply.startswith("250"):
            self.messages.append(message_from_bytes(envelope.content, policy=modern))  # type: ignore[arg-type]
            self.was_encrypted.append(session.ssl is not None)
        return self.reply


def certificate(folder: Path) -> ssl.SSLContext:
    """A certificate for this machine, made now, with its file at folder/ca.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


def only_ada(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    # Not handled: the server itself says 535.
    return AuthResult(success=(data.login, data.password) == (b"ada", b"p@ss"), handled=False)


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def server(inbox: Inbox) -> Iterator[Controller]:
    """A server without encryption."""
    controller = Controller(inbox, hostname="127.0.0.1", port=free_port(), ready_timeout=READY_SECONDS)
    controller.start()
    yield controller
    controller.stop()


@pytest.fixture
def guarded(inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Controller]:
    """A server that wants STARTTLS and a password, with a certificate that is trusted."""
    context = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    controller = Controller(
        inbox,
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        authenticator=only_ada,
        auth_required=True,
        ready_timeout=READY_SECONDS,
    )
    controller.start()
    yield controller
    controller.stop()


def port_of(controller: Controller) -> int:
    return int(controller.port)


def smtp(url: str) -> Smtp:
    return Smtp(read_smtp_url(url), sender=SENDER)


async def test_a_letter_arrives_in_both_forms(server: Controller, inbox: Inbox) -> None:
    """From whom, to whom, when, and that a machine wrote it."""
    await smtp(f"smtp://127.0.0.1:{port_of(server)}").send(LETTER, message_id="mail_1", now=NOW)
    [message] = inbox.messages
    assert (message["From"], message["To"], message["Subject"]) == (SENDER, LETTER.to, LETTER.subject)
    assert (message["Message-ID"], message["Auto-Submitted"]) == ("<mail_1@mail.example>", "auto-generated")
    assert message["Date"] == "Fri, 01 May 2026 00:00:00 +0000"
    parts = {part.get_content_type(): part.get_content() for part in message.iter_parts()}  # type: ignore[attr-defined]
    assert parts == {"text/plain": "Text\r\n", "text/html": "<p>Text</p>\r\n"}


async def test_starttls_and_a_password(guarded: Controller, inbox: Inbox) -> None:
    """Encrypted before anything is said; the password may have any character."""
    url = f"smtp+starttls://ada:p%40ss@127.0.0.1:{port_of(guarded)}"
    await smtp(url).send(LETTER, message_id="mail_1", now=NOW)
    assert inbox.was_encrypted == [True]


async def test_an_operators_authority_is_believed(
    guarded: Controller, inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside those of this machine, of which none vouches for that server here."""
    monkeypatch.delenv("SSL_CERT_FILE")
    server = read_smtp_url(f"smtp+starttls://ada:p%40ss@127.0.0.1:{port_of(guarded)}")
    with pytest.raises(MailError, match="cannot be reached safely"):
        await Smtp(server, sender=SENDER).send(LETTER, message_id="mail_1", now=NOW)
    believing = Smtp(server, sender=SENDER, authorities=(tmp_path / "ca.pem").read_text(encoding="ascii"))
    await believing.send(LETTER, message_id="mail_1", now=NOW)
    assert inbox.was_encrypted == [True]


async def test_a_wrong_password_is_told_and_may_be_put_right(guarded: Controller, inbox: Inbox) -> None:
    """Not final: the letter waits."""
    with pytest.raises(MailError, match="535") as caught:
        await smtp(f"smtp+starttls://ada:wrong@127.0.0.1:{port_of(guarded)}").send(
            LETTER, message_id="mail_1", now=NOW
        )
    assert not caught.value.is_final
    assert "wrong" not in str(caught.value)
    assert inbox.messages == []


async def test_a_server_without_encryption_hears_no_letter_that_needs_it(
    server: Controller, inbox: Inbox
) -> None:
    """STARTTLS that is asked for and not offered ends it."""
    with pytest.raises(MailError):
        await smtp(f"smtp+starttls://127.0.0.1:{port_of(server)}").send(LETTER, message_id="mail_1", now=NOW)
    assert inbox.messages == []


async def test_a_certificate_of_nobody_we_trust_ends_it(
    guarded: Controller, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attacker in between has one, too."""
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(MailError):
        await smtp(f"smtp+starttls://ada:p%40ss@127.0.0.1:{port_of(guarded)}").send(
            LETTER, message_id="mail_1", now=NOW
        )
    assert inbox.messages == []


@pytest.mark.parametrize(
    ("field", "reply", "is_final"),
    [
        ("recipient_reply", "550 no such mailbox", True),
        ("recipient_reply", "451 try later", False),
        ("reply", "554 spam", True),
        ("reply", "452 disk full", False),
    ],
)
async def test_what_the_server_says_tells_whether_trying_again_helps(
    server: Controller, inbox: Inbox, field: str, reply: str, is_final: bool
) -> None:
    """5xx is for good, 4xx may pass."""
    setattr(inbox, field, reply)
    with pytest.raises(MailError, match=reply) as caught:
        await smtp(f"smtp://127.0.0.1:{port_of(server)}").send(LETTER, message_id="mail_1", now=NOW)
    assert caught.value.is_final is is_final


async def test_nobody_there_is_a_passing_fault() -> None:
    """Such as a restart."""
    with pytest.raises(MailError) as caught:
        await smtp("smtp://127.0.0.1:1").send(LETTER, message_id="mail_1", now=NOW)
    assert not caught.value.is_final


def test_an_address_of_a_server_is_read_strictly() -> None:
    """Ports by scheme; a password never goes over a network in the clear."""
    assert read_smtp_url("smtps://u:p@mail.example").port == 465
    assert read_smtp_url("smtp+starttls://mail.example").port == 587
    assert read_smtp_url("smtp://mail.example").needs_starttls is False
    assert read_smtp_url("smtp://u:p@mail.example").needs_starttls is True
    assert read_smtp_url("smtp://u:p@127.0.0.1").needs_starttls is False
    for wrong in ("mail.example", "http://mail.example", "smtp://", "smtp://u@mail.example", "smtp://m/x"):
        with pytest.raises(ValueError, match="SMTP_URL"):
            read_smtp_url(wrong)


def settings(**fields: Any) -> GatewaySettings:
    urls = dict.fromkeys(("nats_url", "database_url", "database_projector_url", "database_owner_url"), "")
    return GatewaySettings(**{"port": 4000, "jwt_secret": "s" * 32, **urls, **fields})


def test_mail_is_caught_only_where_nobody_else_looks() -> None:
    """Development on loopback without a mail server."""
    assert settings().catches_mail
    assert not settings(host="0.0.0.0").catches_mail
    assert not settings(environment="production").catches_mail
    assert not settings(smtp_url="smtp://mail.example").catches_mail
    check(settings(smtp_url="smtp://mail.example", mail_from=SENDER))
    for wrong in ({"smtp_url": "x"}, {"smtp_url": "smtp://mail.example"}):
        with pytest.raises(StartError, match="SMTP_URL"):
            check(settings(**wrong))


async def test_the_catcher_keeps_the_newest() -> None:
    """A hundred of them."""
    catcher = Catcher()
    for number in range(CAUGHT_MAX + 1):
        letter = Letter(to="a@b.example", subject=str(number), text="", html="")
        await catcher.send(letter, message_id="", now=NOW)
    assert len(catcher.caught) == CAUGHT_MAX
    assert catcher.caught[0].letter.subject == str(CAUGHT_MAX)


def test_a_name_cannot_add_to_a_letter() -> None:
    """Neither a header nor markup."""
    assert one_line("Acme\r\nBcc: all@acme.example\x07") == "Acme Bcc: all@acme.example"
    letter = invitation_letter(
        to="a@b.example",
        workspace="<b>Acme</b>\n",
        inviter="Eve & Co",
        role="analyst",
        link="https://c.example/invitation#t",
        expires_at=NOW,
    )
    assert letter.subject == "You are invited to <b>Acme</b> on Causeloop"
    assert "&lt;b&gt;Acme" in letter.html
    assert "<b>" not in letter.html
    assert "Friday, 1 May 2026, 00:00 UTC" in letter.text
    assert "https://c.example/invitation#t" in letter.text


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class Refusing:
    """A transport that answers with these faults, then takes everything."""

    def __init__(self, *faults: MailError) -> None:
        self.faults = list(faults)
        self.sent: list[tuple[str, Letter]] = []

    async def send(self, letter: Letter, *, message_id: str, now: datetime) -> None:
        del now
        if self.faults:
            raise self.faults.pop(0)
        self.sent.append((message_id, letter))


class World:
    """An invitation whose letter is in the queue."""

    def __init__(self, pool: Pool, tenant: Tenant, owner_url: str) -> None:
        self.pool = pool
        self.tenant = tenant
        self.owner_url = owner_url
        self.clock = Clock()
        self.vault = Vault(MasterKeys(SealingKey.made()), clock=self.clock)

    def postbox(self, transport: Any, *, vault: Vault | None = None) -> Postbox:
        return Postbox(self.pool, vault or self.vault, transport, clock=self.clock, rng=random.Random(1))

    async def invite(self, box: Postbox, email: str = "ada@acme.example") -> str:
        owner = Principal(
            workspace_id=self.tenant.workspace_id,
            user_id=self.tenant.owner_id,
            role="owner",
            scopes=ROLES["owner"].scopes,
            session_id="",
            expires_at=NOW,
        )
        act = Act(principal=owner, ip="", now=self.clock.now)
        async with tenant(self.pool, self.tenant.workspace_id) as conn:
            offer = await invitations.invite(
                conn, act, email=email, role="viewer", delivery=box.delivery, rng=random.Random(email)
            )
            letter = Letter(to=email, subject="S", text=offer.token, html="")
            await box.put(
                conn, letter, workspace_id=self.tenant.workspace_id, invitation_id=offer.invitation_id
            )
        return offer.invitation_id

    async def delivery(self, invitation_id: str) -> tuple[str, str | None]:
        async with tenant(self.pool, self.tenant.workspace_id) as conn:
            found = await _queries.get_invitation(
                conn, workspace_id=self.tenant.workspace_id, invitation_id=invitation_id
            )
        assert found is not None
        return found.delivery, found.delivery_error

    async def queued(self) -> list[Any]:
        return await execute(self.owner_url, "SELECT message_sealed, n_attempts FROM mail_queue")


@pytest.fixture
async def world(database: Database) -> AsyncIterator[World]:
    pool = databases.pool(database.app_url, schema="identity", max_size=4)
    await pool.open()
    yield World(pool, await onboard(database.owner_url), database.owner_url)
    await pool.close()


async def test_a_queued_letter_is_sealed_and_sent_once(world: World) -> None:
    """By whichever gateway is faster; the row goes with it, and the invitation says so."""
    transport = Refusing()
    boxes = [world.postbox(transport), world.postbox(transport)]
    invitation_id = await world.invite(boxes[0])
    [(sealed, _)] = await world.queued()
    assert "clp_invite_" not in sealed
    assert await world.delivery(invitation_id) == ("queued", None)
    assert sorted(await asyncio.gather(*(box.send_one() for box in boxes))) == [False, True]
    assert [letter.to for _, letter in transport.sent] == ["ada@acme.example"]
    assert await world.queued() == []
    assert await world.delivery(invitation_id) == ("sent", None)


async def test_a_letter_is_tried_again_with_growing_pauses_and_given_up(world: World) -> None:
    """What the server said shows on the invitation all the time."""
    box = world.postbox(Refusing(*[MailError("451 busy")] * ATTEMPTS_MAX))
    invitation_id = await world.invite(box)
    pauses = []
    for _ in range(ATTEMPTS_MAX - 1):
        assert await box.send_one()
        assert await world.delivery(invitation_id) == ("queued", "451 busy")
        assert not await box.send_one()
        [(pause,)] = await execute(
            world.owner_url, "SELECT next_attempt_at - %s FROM mail_queue", world.clock.now
        )
        pauses.append(pause.total_seconds())
        world.clock.now += pause
    assert pauses == [30 * 2**n for n in range(ATTEMPTS_MAX - 1)]
    assert await box.send_one()
    assert await world.delivery(invitation_id) == ("failed", "451 busy")
    assert await world.queued() == []


async def test_a_final_refusal_is_not_tried_again(world: World) -> None:
    """No such mailbox."""
    box = world.postbox(Refusing(MailError("550 no such mailbox", is_final=True)))
    invitation_id = await world.invite(box)
    assert await box.send_one()
    assert await world.delivery(invitation_id) == ("failed", "550 no such mailbox")
    assert await world.queued() == []


async def test_a_letter_of_a_gateway_that_died_is_sent_by_another(world: World) -> None:
    """Once its lease is over, under the same id."""

    class Dying(Refusing):
        async def send(self, letter: Letter, *, message_id: str, now: datetime) -> None:
            raise asyncio.CancelledError

    box = world.postbox(Dying())
    await world.invite(box)
    with pytest.raises(asyncio.CancelledError):
        await box.send_one()
    transport = Refusing()
    survivor = world.postbox(transport)
    assert not await survivor.send_one()
    world.clock.now += timedelta(seconds=LEASE_SECONDS)
    assert await survivor.send_one()
    assert len(transport.sent) == 1


@pytest.mark.parametrize("faults", [[], [MailError("451 busy")]], ids=["sent", "postponed"])
async def test_a_link_that_is_renewed_while_its_letter_is_sent(world: World, faults: list[MailError]) -> None:
    """Both take the invitation before its letter, so neither waits for the other in a circle."""
    box = world.postbox(Refusing(*faults))
    invitation_id = await world.invite(box)
    async with tenant(world.pool, world.tenant.workspace_id) as conn:
        # As `invitations.renew` does it, with the letter's end in between.
        await conn.execute("UPDATE invitations SET created_at = created_at")
        sending = asyncio.create_task(box.send_one())
        waiting = "SELECT pid FROM pg_locks WHERE NOT granted"
        await eventually(lambda: execute(world.owner_url, waiting))
        await _queries.delete_mail_of_invitation(
            conn, workspace_id=world.tenant.workspace_id, invitation_id=invitation_id
        )
    assert await sending
    assert await world.delivery(invitation_id) == ("queued", None)
    assert await world.queued() == []


async def test_a_letter_whose_key_is_gone_is_given_up(world: World) -> None:
    """And says what to do."""
    box = world.postbox(Refusing())
    invitation_id = await world.invite(box)
    other = Vault(MasterKeys(SealingKey.made()), clock=world.clock)
    assert await world.postbox(Refusing(), vault=other).send_one()
    delivery, error = await world.delivery(invitation_id)
    assert delivery == "failed"
    assert error is not None
    assert "Resend" in error


async def test_without_a_mail_server_nothing_is_queued(world: World) -> None:
    """The link is handed over by hand."""
    box = world.postbox(None)
    assert box.delivery == "link"
    assert not await box.send_one()


async def test_the_box_sends_by_itself_when_told(world: World) -> None:
    """Without waiting for the next look."""
    transport = Refusing()
    box = world.postbox(transport)
    running = asyncio.create_task(box.run())
    await world.invite(box)
    box.wake()
    await eventually(lambda: transport.sent)
    running.cancel()
