"""The repository as a place: notebooks clean and linked, a README that is current, a wheel that works on its own."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path
from urllib.parse import unquote

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import fer_lab
from fer_lab import pages

ROOT = Path(__file__).parent.parent.parent
NBS = ROOT / "nbs"
NOTEBOOKS = sorted(path for path in NBS.rglob("*.ipynb") if not any(part[0] in "._" for part in path.parts))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[str(path.relative_to(NBS)) for path in NOTEBOOKS])
share_the_wheel = pytest.mark.xdist_group("wheel")


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def cells(path: Path, kind: str) -> list[str]:
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == kind]


def outputs(path: Path) -> list[dict]:
    return [output for cell in read(path)["cells"] for output in cell.get("outputs", [])]


def run(*command: str | Path, **kwargs) -> subprocess.CompletedProcess:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, encoding="utf-8", **kwargs)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def command(name: str) -> str:
    """A command of the environment the tests run in, whether or not it is activated."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found, f"{name} is not installed beside {sys.executable}"
    return found


@pytest.fixture(scope="session")
def files():
    """Every file git would commit, relative to the top."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).stdout
    return [Path(name) for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture
def copy(files, tmp_path):
    """The repository as it would be committed now, in a folder of its own."""
    top = tmp_path / "fer_lab"
    for file in files:
        (top / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, top / file)
    return top


# ---- notebooks

@every_notebook
def test_a_notebook_opens_with_a_title_and_one_line(path):
    first = read(path)["cells"][0]
    assert first["cell_type"] == "markdown"
    # nbdev makes the page's head of this cell and drops the rest of it.
    assert re.fullmatch(r"# \S.*\n+> \S.*\s*", "".join(first["source"])), "the first cell is `# Title`, `> one line`"


@every_notebook
def test_a_notebook_names_its_module_and_nbdev_has_written_it(path):
    if path.parent == NBS or path.parent.name == "labs":
        return
    names = re.findall(r"^#\| default_exp (\S+)$", "\n".join(cells(path, "code")), re.MULTILINE)
    assert len(names) == 1
    module = ROOT / "fer_lab" / (names[0].replace(".", "/") + ".py")
    assert f"nbs/{path.relative_to(NBS).as_posix()}" in module.read_text(encoding="utf-8")


@every_notebook
def test_cells_are_short(path):
    longest = max((len(source.splitlines()) for source in cells(path, "code")), default=0)
    assert longest <= 40, f"a code cell has {longest} lines; a lesson has about 15, and never more than 40"


@every_notebook
def test_settings_can_be_given_by_papermill(path):
    parameters = [cell for cell in read(path)["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    tagged = ["".join(cell["source"]) for cell in parameters]
    asks = re.search(r"^settings = load_settings\(.*budget=budget", "\n".join(cells(path, "code")), re.MULTILINE)
    assert len(tagged) == (1 if asks else 0)
    for source in tagged:  # a default here would always win over settings.ini
        assert re.findall(r"^(\w+) = None$", source, re.MULTILINE) == ["dataset", "budget", "seed"]


@every_notebook
def test_stored_outputs_are_small_clean_and_without_photographs(path):
    assert path.stat().st_size < 3_000_000
    for output in outputs(path):
        assert output["output_type"] != "error", output.get("evalue")
        data = output.get("data", {})
        assert not {"image/png", "image/jpeg"} & set(data), "pictures are figures, SVG or HTML of synthetic faces"
        page = "".join(data.get("text/html", ""))
        assert "Plotly.newPlot" not in page and "cdn.plot.ly" not in page, "store figures as plotly_mimetype"
        assert not (pages.PLOTLY in data and page), "a figure is stored once, as data"


@every_notebook
def test_nothing_tells_whose_machine_it_was(path):
    text = path.read_text(encoding="utf-8")
    places = r"(?<![\w.:/])/(?:home|Users|root|tmp|var|private|mnt|opt|srv|work|workspace)/|[A-Z]:\\\\Users\\\\"
    assert not re.findall(rf"(?:{places})[\w./-]+", text) and str(ROOT) not in text


@every_notebook
def test_commands_can_be_copied(path):
    """A line of a command goes on after one backslash; two, from careless quoting, would end it."""
    fenced = [block for text in cells(path, "markdown") for block in re.findall(r"```.*?```", text, re.DOTALL)]
    assert not [line for block in fenced for line in block.splitlines() if re.search(r"\\\\\s*$", line)]
    assert all(block.startswith("```\n#!") for block in fenced if "#SBATCH" in block)  # or sbatch refuses it


def links(text: str) -> list[str]:
    """Relative targets of the links and pictures in Markdown, code left out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"(?:src|href)=\"([^\"]+)\"", text)
    return [unquote(link.split("#")[0]) for link in found if not re.match(r"\w+:|#|/|data:", link)]


@every_notebook
def test_links_between_notebooks_lead_somewhere(path):
    broken = [link for text in cells(path, "markdown") for link in links(text) if not (path.parent / link).exists()]
    assert not broken


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "data/README.md"])
def test_links_in_the_documents_lead_somewhere(name):
    page = ROOT / name
    assert not [link for link in links(page.read_text(encoding="utf-8")) if not (page.parent / link).exists()]


def test_the_sidebar_lists_every_notebook_once():
    contents = pages.sidebar(NBS)["website"]["sidebar"]["contents"]
    listed = [contents[0], *(page for section in contents[1:] for page in section["contents"])]
    assert sorted(listed) == sorted(path.relative_to(NBS).as_posix() for path in NOTEBOOKS)
    assert contents[0] == "index.ipynb" and contents[1]["section"] == "Papers"


def test_readme_is_current():
    written = (ROOT / "README.md").read_text(encoding="utf-8")
    assert written == pages.readme(ROOT), "README.md is made from nbs/index.ipynb: run `make readme`"


def test_numbers_in_the_readme_are_those_of_the_record():
    card = read(ROOT / "fer_lab" / "zoo" / "stn-fer2013" / "card.json")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for side in ("val_tta", "test", "test_without_repeats"):
        assert f"{100 * card[side]['war']:.1f} %" in text, f"nbs/index.ipynb says something else than the card ({side})"


# ---- sources

@pytest.mark.skipif(os.name == "nt", reason="nbdev writes Windows line ends there")
def test_cleaning_and_exporting_change_nothing(copy, files):
    run(command("nbdev-clean"), cwd=copy)
    run(command("nbdev-export"), cwd=copy)
    made = {path.relative_to(copy) for path in copy.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert made == set(files), "nbdev-export made or removed files; run it and commit them"
    changed = [str(file) for file in files if (copy / file).read_bytes() != (ROOT / file).read_bytes()]
    assert not changed, f"run nbdev-clean and nbdev-export, and commit: {', '.join(changed)}"


def test_every_dependency_is_pinned_and_every_pin_is_plain():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pins = {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}
    assert len(pins) == len(lines)
    assert all(re.fullmatch(r"==[^*,+]+", str(pin.specifier)) and not pin.url for pin in pins.values())
    project = PROJECT["project"]
    wanted = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    for requirement in map(Requirement, wanted):
        if canonicalize_name(requirement.name) == "fer-lab":  # one extra holds another
            continue
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(str(pin.specifier).removeprefix("=="), prereleases=True), requirement


def test_whatever_the_package_imports_is_declared():
    names = set()
    for module in (ROOT / "fer_lab").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(module.read_text(encoding="utf-8"))))
        optional = {id(part) for node in nodes if isinstance(node, ast.Try) for part in node.body}  # try: import x
        for node in nodes:
            if id(node) in optional:
                continue
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    comes_from = packages_distributions()
    foreign = names - sys.stdlib_module_names - {"fer_lab"}
    missing = {name for name in foreign if not declared & set(map(canonicalize_name, comes_from.get(name, [name])))}
    assert not missing


def test_the_change_log_knows_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(fer_lab.__version__)}\b", text, re.MULTILINE)


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
def test_the_ci_script_can_be_run(files):
    run("sh", "-n", ROOT / ".ci" / "run")
    assert run("git", "ls-files", "--stage", ".ci/run", cwd=ROOT).stdout.startswith("100755")


# ---- the wheel

@pytest.fixture(scope="module")
def built(files, tmp_path_factory):
    """(sdist, wheel): the wheel is made from the sdist, so both are complete."""
    top = tmp_path_factory.mktemp("build")
    for file in files:
        (top / "repository" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, top / "repository" / file)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", top / "dist", top / "repository")
    return next((top / "dist").glob("*.tar.gz")), next((top / "dist").glob("*.whl"))


@share_the_wheel
def test_the_wheel_holds_the_package_its_assets_and_the_notebooks(built, files):
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
    info = f"fer_lab-{fer_lab.__version__}.dist-info"
    inside = {name for name in names if name.startswith("fer_lab/")}
    package = {file.as_posix() for file in files if file.parts[0] == "fer_lab"}
    notebooks = {f"fer_lab/notebooks/{path.relative_to(NBS).as_posix()}" for path in NOTEBOOKS}
    drawn = [file for file in files if file.parts[0] == "nbs" and file.suffix in {".png", ".svg"}]
    pictures = {f"fer_lab/notebooks/{file.relative_to('nbs').as_posix()}" for file in drawn}
    assert inside == package | notebooks | pictures
    assert {f"{info}/licenses/LICENSE", f"{info}/entry_points.txt"} <= names
    assert {name.split("/")[0] for name in names} == {"fer_lab", info}


@share_the_wheel
def test_the_notebooks_in_the_wheel_have_no_outputs(built):
    with zipfile.ZipFile(built[1]) as wheel:
        for name in wheel.namelist():
            if name.endswith(".ipynb"):
                notebook = json.loads(wheel.read(name))
                code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
                assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
                assert "widgets" not in notebook["metadata"]
                source = read(NBS / Path(name).relative_to("fer_lab/notebooks"))
                assert [cell["source"] for cell in notebook["cells"]] == [cell["source"] for cell in source["cells"]]


@share_the_wheel
def test_the_wheel_says_what_it_is(built):
    with zipfile.ZipFile(built[1]) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        about = Parser().parsestr(wheel.read(name).decode("utf-8"))
    assert (about["Name"], about["Version"]) == ("fer_lab", fer_lab.__version__)
    assert (about["License-Expression"], about["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    assert "papers" in about.get_payload()


@pytest.fixture(scope="module")
def clean(built, tmp_path_factory):
    """Commands of a fresh environment that holds the wheel, and borrows everything else from the tests' environment."""
    folder = tmp_path_factory.mktemp("clean") / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = shutil.which("python", path=str(scripts))
    here = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    import torch

    # A folder named in a .pth file is importable, but its own .pth files are not read: no editable fer_lab from there.
    (Path(here) / "borrowed.pth").write_text(str(Path(torch.__file__).parent.parent), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--force-reinstall", built[1])
    return {"python": python, "fer-lab": shutil.which("fer-lab", path=str(scripts)), "prefix": folder}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A working directory that has nothing to do with the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))  # templates
    return tmp_path


@share_the_wheel
def test_the_wheel_is_imported_from_where_it_was_installed(clean, elsewhere):
    where = run(clean["python"], "-c", "import fer_lab; print(fer_lab.__file__)").stdout.strip()
    assert Path(where).resolve().is_relative_to(clean["prefix"].resolve())


@share_the_wheel
def test_the_command_answers_outside_the_repository(clean, elsewhere):
    assert fer_lab.__version__ in run(clean["fer-lab"], "--version").stdout
    told = run(clean["fer-lab"], "settings").stdout
    assert all(key in told for key in ("dataset", "budget", "device", "precision", "seed"))


@share_the_wheel
def test_the_main_job_runs_from_the_wheel(clean, elsewhere):
    run(clean["fer-lab"], "run", "--budget", "smoke", "--only", "stn")
    reports = list(elsewhere.glob("runs/*/index.html"))
    assert len(reports) == 1
    executed = list(reports[0].parent.rglob("*stn*.ipynb"))
    assert len(executed) == 1 and any(output["output_type"] == "execute_result" for output in outputs(executed[0]))
