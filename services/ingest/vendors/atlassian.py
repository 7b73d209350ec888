"""Where Atlassian takes a token that a person gave us for their site: under an id that it has for the site.

Source: https://developer.atlassian.com/cloud/jira/platform/oauth-2-3lo-apps/, section 3.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from services.ingest.errors import VendorError

ADDRESS: Final = "https://api.atlassian.com"
SITES: Final = "/oauth/token/accessible-resources"
"""What lists the sites that a token reaches."""

_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


def jira_url(sites: object, site: str) -> str:
    """The address of a site's Jira. sites: the answer to SITES. Raises VendorError for a site that it lacks."""
    for each in sites if isinstance(sites, list) else []:
        if isinstance(each, dict) and _host(each.get("url")) == f"{site}.atlassian.net":
            id_ = str(each.get("id"))
            if _ID.fullmatch(id_):
                return f"{ADDRESS}/ex/jira/{id_}"
    raise VendorError(
        "not_configured",
        f"this sign-in does not reach {site}.atlassian.net: who signed in may not see that site",
    )


def _host(url: object) -> str | None:
    try:
        return urlsplit(str(url)).hostname
    except ValueError:
        return None
