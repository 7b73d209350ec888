"""What we write to people, as plain text and as the same text in minimal HTML."""

from datetime import datetime
from html import escape

from services.gateway.identity.scopes import ROLES
from services.gateway.mail import Letter


def invitation_letter(
    *, to: str, workspace: str, inviter: str | None, role: str, link: str, expires_at: datetime
) -> Letter:
    """The letter that carries an invitation's link. inviter: None when no person made it."""
    place = one_line(workspace)
    opening = (
        f"{one_line(inviter)} invites you to {place} on Causeloop."
        if inviter
        else f"You are invited to {place} on Causeloop."
    )
    role_said = f"You will join as {ROLES[role].label}."
    day = f"{expires_at:%A}, {expires_at.day} {expires_at:%B %Y, %H:%M} UTC"
    until = f"The link is for {to} only and works once, until {day}."
    why = "If you did not expect this, ignore it: nothing happens unless you accept."
    text = f"{opening} {role_said}\n\nAccept the invitation:\n{link}\n\n{until}\n{why}\n"
    html = (
        '<!doctype html><html lang="en"><body style="font:16px/1.5 system-ui,sans-serif;color:#1c2321;max-width:34em">'
        f"<p>{escape(opening)} {escape(role_said)}</p>"
        f'<p><a href="{escape(link)}" style="display:inline-block;padding:10px 18px;border-radius:8px;'
        'background:#158f6b;color:#ffffff;text-decoration:none">Accept the invitation</a></p>'
        f'<p style="color:#66706c;font-size:14px">Or open this address: {escape(link)}</p>'
        f'<p style="color:#66706c;font-size:14px">{escape(until)} {escape(why)}</p></body></html>'
    )
    return Letter(to=to, subject=f"You are invited to {place} on Causeloop", text=text, html=html)


def one_line(name: str) -> str:
    """A name that people chose as one line without control characters, so that it cannot add to a letter."""
    return " ".join("".join(c if c.isprintable() else " " for c in name).split())
