"""The page on which a person chooses a company, as CRM shows it: in a frame of a window that has Xrm.

Without a browser on the machine its markup is read; what its script does is then tested with the JavaScript engine of
tests/unit/solution alone.
"""

import io
import re
import zipfile

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from app.solution import build
from tests.browser.browsers import Chromium, a_browser
from tests.crm_sandbox import served

pytestmark = pytest.mark.anyio

DIALOG = """<!doctype html><title>CRM</title>
<script>
window.Xrm = { WebApi: { retrieveMultipleRecords: function () {
    return Promise.resolve({ entities: [
        { navcrm_name: "CRONUS <b>International</b> Ltd.", navcrm_company: "cronus" },
        { navcrm_name: "Fabrikam", navcrm_company: "fabrikam & co", navcrm_serviceurl: "https://b.example" }
    ] });
} } };
</script>
<iframe width="420" height="360" src="/WebResources/navcrm_/opennav.html?data=entity%3Daccount%26id%3D1-2"></iframe>"""


def crm_with_the_solution() -> Starlette:
    """What CRM serves of an imported solution."""
    with zipfile.ZipFile(io.BytesIO(build("1.0", "https://a.example"))) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name.startswith("WebResources/")}

    async def resource(request: Request) -> Response:
        wanted = "navcrm_" + re.sub("[/.]", "", request.path_params["name"])
        content = next(
            content for name, content in files.items() if name.startswith(f"WebResources/{wanted}")
        )
        return Response(content, media_type="text/javascript" if wanted.endswith("js") else "text/html")

    async def dialog(request: Request) -> Response:
        return HTMLResponse(DIALOG)

    return Starlette(routes=[Route("/WebResources/navcrm_/{name}", resource), Route("/main.aspx", dialog)])


async def test_a_person_chooses_between_the_companies() -> None:
    async with served(crm_with_the_solution()) as crm, a_browser() as browser:
        seen = await browser.visit(f"{crm}/WebResources/navcrm_/opennav.html", 420)
        assert seen.title == "Dynamics NAV"
        if not isinstance(browser, Chromium):
            assert "Reading the companies" in seen.text
            return
        assert "Open this page with the button" in seen.text
        await browser.visit(f"{crm}/main.aspx")
        await browser.until("frames[0].document.querySelectorAll('#companies a').length > 0")
        links = await browser.read(
            "Array.from(frames[0].document.querySelectorAll('#companies a')).map(a => [a.innerText, a.href])"
        )
        assert links == [
            [
                "CRONUS <b>International</b> Ltd.",
                "https://a.example/open/nav?company=cronus&entity=account&id=1-2",
            ],
            ["Fabrikam", "https://b.example/open/nav?company=fabrikam%20%26%20co&entity=account&id=1-2"],
        ]
