"""A real JupyterLab on loopback and a real browser in front of it."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent.parent
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--force-color-profile=srgb",
]
# No question about news, no autosave dialogs: the tests see the notebook and nothing else.
OVERRIDES = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
STATE = """() => {
    const notebook = window.jupyterapp.shell.currentWidget.content;
    const cells = notebook.widgets.filter(c => c.model.type === 'code' && c.model.sharedModel.getSource().trim());
    const outputs = cells.flatMap(c => c.model.outputs.toJSON());
    return {
        cells: cells.length,
        ran: cells.filter(c => c.model.executionCount !== null).length,
        errors: outputs.filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue),
        kernel: window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status ?? 'none',
    };
}"""


class Lab:
    """A page of JupyterLab with one notebook open, operated as a person would."""

    def __init__(self, page, address: str, token: str):
        self.page, self.address, self.token = page, address, token

    def open(self, notebook: str) -> None:
        self.page.goto(f"{self.address}/lab/tree/{notebook}?reset&token={self.token}")
        self.page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.content?.widgets?.length > 0")
        self.wait(lambda state: state["kernel"] == "idle", 120, "the kernel to start")

    def run_all(self, timeout: float = 300) -> dict:
        """Run > Run All Cells, then wait for the last one. Returns how it ended; stops early at an error."""
        self.page.get_by_role("menubar").get_by_text("Run", exact=True).click()
        self.page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
        return self.wait(lambda state: state["errors"] or finished(state), timeout, "all cells to run")

    def wait(self, done, timeout: float, what: str) -> dict:
        end = time.monotonic() + timeout
        while not done(state := self.page.evaluate(STATE)):
            assert time.monotonic() < end, f"waited {timeout:.0f} s for {what}: {state}"
            self.page.wait_for_timeout(500)
        return state

    def show(self, text: str):
        """Scroll to the cell whose source holds `text` and return it: cells far from view are not in the page."""
        index = self.page.evaluate(
            """text => {
                const notebook = window.jupyterapp.shell.currentWidget.content;
                const index = notebook.widgets.findIndex(c => c.model.sharedModel.getSource().includes(text));
                if (index >= 0) { notebook.activeCellIndex = index; notebook.scrollToItem(index, 'start'); }
                return index;
            }""", text)
        assert index >= 0, f"no cell holds {text!r}"
        cell = self.page.locator(f'.jp-Cell[data-windowed-list-index="{index}"]').first
        cell.wait_for(state="attached")
        return cell


def finished(state: dict) -> bool:
    return state["ran"] == state["cells"] and state["kernel"] == "idle"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """(address, token, folder) of a JupyterLab that works on a copy of the notebooks, at the smoke budget."""
    home = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(ROOT / "nbs", home / "lab" / "nbs", ignore=shutil.ignore_patterns(".*", "_*"))
    shutil.copy(ROOT / "settings.ini", home / "lab")
    (home / "config" / "labconfig").mkdir(parents=True)
    (home / "config" / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(OVERRIDES))
    address, token = f"http://127.0.0.1:{free_port()}", secrets.token_hex(16)
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        "FER_LAB_BUDGET": "smoke",
        "FER_LAB_RUNS_DIR": str(home / "runs"),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--expose-app-in-browser",
        "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={address.rsplit(':', 1)[1]}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home / 'lab'}",
    ]
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            for _ in range(120):
                if process.poll() is not None or answers(f"{address}/api/status?token={token}"):
                    break
                time.sleep(0.5)
            assert answers(f"{address}/api/status?token={token}"), (home / "server.log").read_text()[-3000:]
            yield address, token, home / "lab"
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="session")
def browser(chromium):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


FAILED = pytest.StashKey[bool]()


@pytest.fixture
def page(browser, request, artifacts):
    """An empty page. Script errors are collected in `page.script_errors`; a test that fails leaves a screenshot."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(120_000)  # a loaded machine is slow, not wrong
    page.script_errors = []
    page.on("pageerror", lambda error: page.script_errors.append(str(error)))
    yield page
    if FAILED in request.node.stash:
        page.screenshot(path=artifacts / f"{request.node.name}-failed.png")
    page.close()


@pytest.fixture
def lab(page, server):
    return Lab(page, *server[:2])
