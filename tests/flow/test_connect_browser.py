"""/connect of the running service in a real Chromium: connect, see it, disconnect."""

import asyncio
import re
import shutil
from collections.abc import Iterator

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions as when
from selenium.webdriver.support.ui import WebDriverWait

from tests.flow.commands import Command, oauth_environ
from tests.flow.rig import Rig, until
from tests.oauth_user import KEY
from tests.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]
PATIENCE = 30.0  # s


@pytest.fixture
def chromium() -> Iterator[Chrome]:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("no browser: install chromium and chromium-driver")
    options = ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    made = Chrome(options=options, service=Driver(driver))
    try:
        yield made
    finally:
        made.quit()


class Page:
    """What a user does and sees."""

    def __init__(self, browser: Chrome) -> None:
        self._browser = browser
        # An element may go with its page between being found and being read.
        self._wait = WebDriverWait(
            browser, PATIENCE, ignored_exceptions=(WebDriverException,)
        )

    def press(self, name: str) -> None:
        self._wait.until(when.element_to_be_clickable((By.ID, name))).click()

    def sees(self, name: str, text: str) -> None:
        self._wait.until(when.text_to_be_present_in_element((By.ID, name), text))

    def connect(self, link: str) -> None:
        self._browser.get(link)
        self.sees("state", "Not connected")
        self.press("authenticate")
        self.press("deny")
        self.sees("said", "denied")
        self.press("authenticate")
        self.press("approve")
        self.sees("state", "Connected to Sandbox (SaNdBx)")

    def allow(self, url: str) -> str:
        """Allow the access; the text of the page where that ends."""
        self._browser.get(url)
        self.press("approve")
        told = when.text_to_be_present_in_element((By.TAG_NAME, "p"), "The terminal")
        self._wait.until(told)
        return str(self._browser.find_element(By.TAG_NAME, "p").text)

    def disconnect(self) -> None:
        self.press("disconnect")
        self.sees("said", "Disconnected")
        self.sees("state", "Not connected")


async def test_connect_send_disconnect_connect_again(rig: Rig, chromium: Chrome) -> None:
    port = free_port()
    page = Page(chromium)
    service = rig.service(
        klaviyo__api_key="",
        klaviyo__client_id="sandbox",
        klaviyo__client_secret="sandbox",
        klaviyo__redirect_url=f"http://localhost:{port}/connect/callback",
        secrets__key=KEY,
        http__host="localhost",
        http__port=str(port),
    )
    service.port = port
    async with service:
        await rig.customer(id="C-1", email="ada@shop.dev")
        await until(lambda: "ticket=" in service.output)
        (link,) = re.findall(r"http://localhost:\S+ticket=[\w-]+", service.output)
        await asyncio.to_thread(page.connect, link)
        await until(lambda: len(rig.sandbox.state.profiles.by_id) == 1)
        tokens = [
            token
            for install in rig.sandbox.oauth.installs
            for token in (install.refresh, *install.access)
        ]
        seen = await asyncio.to_thread(lambda: chromium.page_source)
        await asyncio.to_thread(page.disconnect)
        assert rig.sandbox.oauth.installs == []
        await rig.customer(id="C-2", email="bea@shop.dev")
        async with asyncio.timeout(90):
            while not await service.metric("halted", {"reason": "needs_authorisation"}):
                await asyncio.sleep(0.2)
        await asyncio.to_thread(page.press, "authenticate")
        await asyncio.to_thread(page.press, "approve")
        await asyncio.to_thread(page.sees, "state", "Connected to Sandbox (SaNdBx)")
        await until(lambda: len(rig.sandbox.state.profiles.by_id) == 2)
        assert await service.terminate() == 0
    assert tokens
    assert not any(token in service.output + seen for token in tokens)


async def test_login_by_command(rig: Rig, chromium: Chrome) -> None:
    environ = oauth_environ(rig.bootstrap, rig.sandbox.url)
    async with Command(environ, "login", "--no-browser") as command:
        told = await asyncio.to_thread(Page(chromium).allow, await command.url())
        assert await command.ended() == 0, command.output
    assert told == "Klaviyo has answered. The terminal says how it went."
    assert "account: Sandbox (SaNdBx)" in command.output
