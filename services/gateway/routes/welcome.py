"""The page that an invitation's link opens: what it is about, and the way in."""

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from services.gateway.routes.sheets import sheet

PATH = "/invitation"

_STYLE = """
main { max-width: 36em; font-size: 17px; }
main p { margin-bottom: 14px; overflow-wrap: anywhere; }
button { font: inherit; font-weight: 600; color: var(--card); background: var(--good); border: 0; border-radius: 99px;
  padding: 11px 22px; cursor: pointer; }
button:focus-visible { outline: 2px solid var(--ink); outline-offset: 2px; }
"""
_BODY = """<main>
<p id="what" role="status">One moment…</p>
<p><button id="go" type="button" hidden>Sign in and accept</button></p>
<p id="note" class="dim"></p>
</main>
<noscript><p class="reasons">This page needs JavaScript, since the link's secret part is not sent to the server.</p></noscript>"""
_SCRIPT = """
const $ = (id) => document.getElementById(id);
const token = location.hash.slice(1);
const json = async (path, options) => {
  const answer = await fetch(path, options);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail);
  return body;
};
const refuse = (error) => { $("what").textContent = error.message; $("go").hidden = true; };
const arrive = async () => {
  const workspace = await json("/v1/workspace");
  $("what").textContent = "You are a member of " + workspace.name + ".";
};
const invite = async () => {
  const found = await json("/v1/invitations/look", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }),
  });
  const by = found.invited_by_name ? found.invited_by_name + " invites you" : "You are invited";
  $("what").textContent = by + " to " + found.workspace_name + " as " + found.role.replaceAll("_", " ") + ".";
  $("note").textContent = "For " + found.email + ", until " + new Date(found.expires_at).toLocaleString() + ".";
  const way = found.sso_connection_id ? { connection: found.sso_connection_id } : { invitation: token };
  const login = "/v1/auth/login?" + new URLSearchParams({ ...way, redirect_to: "/invitation" });
  $("go").hidden = false;
  $("go").onclick = async () => {
    // A provider that is not there is told of here, instead of on a page of bare JSON.
    const answer = await fetch(login, { redirect: "manual" });
    if (answer.type === "opaqueredirect") location.assign(login);
    else refuse(new Error((await answer.json()).detail));
  };
};
(token ? invite() : arrive()).catch(refuse);
"""


@get(PATH, include_in_schema=False, sync_to_thread=False)
def welcome() -> Response[str]:
    """The page; the link's token stays in the browser until it is used."""
    return sheet("Invitation", _BODY, style=_STYLE, script=_SCRIPT)


ROUTES: tuple[HTTPRouteHandler, ...] = (welcome,)
