"""The README's way to a first message, followed word for word."""

import asyncio
import os
import re
import shlex
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
# The user: opens the page, allows the access, follows where that leads.
USER = """
import asyncio, sys, urllib.request
from tests.oauth_user import decide
urllib.request.urlopen(asyncio.run(decide(sys.argv[1]))).read()
"""


def blocks() -> list[str]:
    """The shell blocks of the section, in their order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## First message\n")[2].partition("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


@pytest.mark.timeout(120)
async def test_the_readme_leads_to_a_first_message(tmp_path: Path) -> None:
    install, connect, send = blocks()
    assert install.startswith("make install\n.venv/bin/klaviyo-pipeline sandbox")
    arguments = install.split("klaviyo-pipeline ")[1].split()
    user = tmp_path / "user.py"
    user.write_text(USER)
    bin_, port = Path(sys.executable).parent, free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PIPELINE_")}
    environ = kept | {
        "PATH": f"{bin_}:{kept['PATH']}",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "BROWSER": f"{shlex.quote(sys.executable)} {user} %s",
        # Tests run side by side, so no port may be fixed.
        "PIPELINE_HTTP__PORT": str(port),
        "PIPELINE_KLAVIYO__REDIRECT_URL": f"http://localhost:{port}/connect/callback",
    }
    sandbox = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pipeline", *arguments, "--port", "0"),
        env=environ,
        stdin=DEVNULL,
        stdout=PIPE,
    )
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-e"),
        env=environ,
        cwd=tmp_path,
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        start_new_session=True,  # so that it ends with all it has started
    )
    assert sandbox.stdout
    assert shell.stdin
    assert shell.stdout
    said = ""
    try:
        exports: list[str] = []
        while len(exports) < 2:
            line = (await sandbox.stdout.readline()).decode()
            assert line, "the sandbox has ended"
            exports += [line] if line.startswith("export ") else []
        shell.stdin.write(f"{''.join(exports)}{connect}".encode())
        while '"event": "assigned"' not in said:
            line = (await shell.stdout.readline()).decode()
            assert line, said
            said += line
        assert "Connected." in said
        assert "FAULT" not in said
        shell.stdin.write(send.encode())
        klaviyo = exports[1].strip().partition("=")[2]
        async with aiohttp.ClientSession(klaviyo) as session, asyncio.timeout(60):
            while True:
                async with session.get("/sandbox/profiles") as answer:
                    found = (await answer.json())["data"]
                if found:
                    break
                await asyncio.sleep(0.1)
        assert found[0]["attributes"]["email"] == "ada@shop.dev"
        shell.stdin.write(b"kill -TERM $!; wait $!; exit 0\n")
        shell.stdin.close()
        said += (await shell.stdout.read()).decode()
        assert await shell.wait() == 0, said
    finally:
        for process, end in ((shell, os.killpg), (sandbox, os.kill)):
            with suppress(ProcessLookupError):
                end(process.pid, signal.SIGKILL)
            await process.wait()
