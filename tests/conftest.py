"""What every test may rely on: its own cache and state folders, one thread a process, data and a browser if there."""

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARTIFACTS = ROOT / "artifacts"

# Read before anything below replaces the variables that are the lab's own.
DATA_FOLDERS = [Path(os.environ["FER_LAB_DATA_DIR"])] if os.environ.get("FER_LAB_DATA_DIR") else []
DATA_FOLDERS += [ROOT.parent / "shared" / "data"]


def pytest_configure(config):
    """Isolate the run from the user's settings, cache and state; worker processes inherit this from the first one."""
    if hasattr(config, "workerinput"):
        return
    for name in [name for name in os.environ if name.startswith("FER_LAB_")]:
        del os.environ[name]
    folder = tempfile.mkdtemp(prefix="fer_lab_tests_")
    config.stash[SCRATCH] = folder
    for name in ("FER_LAB_CACHE_DIR", "FER_LAB_STATE_DIR", "IPYTHONDIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        os.environ[name] = str(Path(folder, name.lower()))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"  # several tests run at once, and a kernel inherits this
    os.environ["TEST_DATA_FOLDERS"] = os.pathsep.join(map(str, DATA_FOLDERS))


SCRATCH = pytest.StashKey[str]()
# No deadline: a loaded machine is slow, not wrong. The same examples each time: a change that passes passes again;
# `pytest --hypothesis-profile explore` looks for new ones.
hypothesis.settings.register_profile("lab", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=500)
hypothesis.settings.load_profile("lab")


def pytest_unconfigure(config):
    if SCRATCH in config.stash:
        shutil.rmtree(config.stash[SCRATCH], ignore_errors=True)


@pytest.fixture(scope="session")
def fer2013_folder():
    """The folder that holds fer2013.csv (or one of its other forms); skips, by name, where nobody has put it."""
    folders = [Path(folder) / "fer2013" for folder in os.environ["TEST_DATA_FOLDERS"].split(os.pathsep)]
    for folder in folders:
        if folder.is_dir() and any(folder.iterdir()):
            return folder
    pytest.skip(f"FER2013 is not in {' or '.join(map(str, folders))}; FER_LAB_DATA_DIR names another place")


@pytest.fixture(scope="session")
def fer2013(fer2013_folder):
    """All 35,887 faces of FER2013, parsed once for the whole run and memory-mapped after that."""
    from fer_lab.fer2013 import read_fer2013

    return read_fer2013(fer2013_folder)


@pytest.fixture(scope="session")
def chromium():
    """Path of a real browser. Where it is missing: skip, or fail if REQUIRE_BROWSER says that CI must have one."""
    for name in BROWSERS:
        if path := shutil.which(name):
            return path
    message = f"no browser found ({', '.join(BROWSERS)}); Debian: apt-get install chromium"
    if os.environ.get("REQUIRE_BROWSER"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def artifacts():
    """Folder for screenshots, kept after the run and uploaded by CI."""
    ARTIFACTS.mkdir(exist_ok=True)
    return ARTIFACTS
