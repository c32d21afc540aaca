"""Packaging only: puts the notebooks, without their outputs, into every wheel as fer_lab/notebooks.

Everything else about the package is in pyproject.toml.
"""

import json
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

NBS = Path(__file__).parent / "nbs"
PICTURES = {".png", ".svg"}


def stripped(notebook: Path) -> str:
    """The text of a notebook without outputs, execution counts and widget state: what a reader starts from."""
    nb = json.loads(notebook.read_text(encoding="utf-8"))
    nb["metadata"].pop("widgets", None)
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = []
            cell["execution_count"] = None
    return json.dumps(nb, indent=1, ensure_ascii=False) + "\n"


class BuildWithNotebooks(build_py):
    """Build the modules, then write the notebooks beside them. An editable install reads nbs/ itself."""

    def run(self):
        super().run()
        if not self.editable_mode:
            self.write_notebooks(Path(self.build_lib) / "fer_lab" / "notebooks")

    def write_notebooks(self, target: Path) -> None:
        if not list(NBS.rglob("*.ipynb")):
            raise FileNotFoundError(f"no notebooks in {NBS}; a wheel is built from the repository or from its sdist")
        for source in sorted(NBS.rglob("*")):
            path = source.relative_to(NBS)
            if any(part[0] in "._" for part in path.parts) or source.suffix not in {".ipynb", *PICTURES}:
                continue
            content = stripped(source).encode("utf-8") if source.suffix == ".ipynb" else source.read_bytes()
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_bytes(content)


setup(cmdclass={"build_py": BuildWithNotebooks})
