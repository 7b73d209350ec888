"""What `causeloop up` shows: steps while it starts, then one screen."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct
from rich.console import Console
from rich.text import Text

LABEL_WIDTH: Final = 16


class Screen(Struct, frozen=True, kw_only=True):
    """Everything that the screen says."""

    urls: Mapping[str, str]
    """Service → address."""
    folder: str
    token: str | None
    workspace_id: str
    seconds: float
    story: str
    """What the demo does now; empty without it."""


def show(screen: Screen, console: Console) -> None:
    """Print the screen; lines to paste are never wrapped."""
    api = screen.urls["gateway"]
    console.print()
    console.print(
        Text.assemble(("Causeloop is running", "bold green"), f"  (ready after {screen.seconds:.1f} s)")
    )
    console.print()
    _line(console, "API", f"{api}/v1")
    _line(console, "Explorer", f"{api}/docs")
    stream = api.replace("http", "ws", 1)
    _line(console, "Live events", f"{stream}/v1/stream?token=$TOKEN&workspace={screen.workspace_id}")
    dashboards = [f"{name:<16}{url}" for name, url in screen.urls.items() if name != "gateway"]
    _line(console, "Dashboards", f"{'gateway':<16}{api}/status", *dashboards)
    _line(console, "Data", screen.folder)
    if screen.story:
        _line(console, "Demo", screen.story)
    console.print()
    if screen.token is None:
        console.print(
            "A token comes from POST /v1/auth/exchange with your identity provider's; then TOKEN=…",
            soft_wrap=True,
        )
    else:
        console.print(Text("Paste this first, a token of the seeded owner:", style="bold"))
        console.print(Text(f"  export TOKEN={screen.token}"), soft_wrap=True)
    console.print()
    console.print(Text("Then, for instance:", style="bold"))
    for command in curl_lines(api):
        console.print(Text(f"  {command}"), soft_wrap=True)
    console.print()
    console.print(
        Text.assemble(("Ctrl-C", "bold"), " stops everything; the next `make up` goes on with the same data.")
    )
    console.print()


def curl_lines(api: str) -> tuple[str, str, str]:
    """Three calls that work as they are once TOKEN is set."""
    auth = '-H "Authorization: Bearer $TOKEN"'
    report = '{"title": "Checkout times out after 30 s", "service": "checkout", "severity": "high"}'
    return (
        f"curl -s '{api}/v1/patterns?limit=5' {auth}",
        f"curl -s '{api}/v1/recommendations?limit=5' {auth}",
        f"curl -s -X POST {api}/v1/issues {auth} -H 'Content-Type: application/json' -d '{report}'",
    )


def _line(console: Console, label: str, first: str, *more: str) -> None:
    text = Text.assemble((f"{label:<{LABEL_WIDTH}}", "bold cyan"), first)
    console.print(text, soft_wrap=True)
    for item in more:
        console.print(" " * LABEL_WIDTH + item, soft_wrap=True)
