"""The three top-level packages are ours alone, and the embedded server is a program, not a library."""

import ast
import importlib.metadata
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PACKAGES = ("gateway", "schema", "resolvers")
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_belongs_to_this_distribution_alone(package: str) -> None:
    # An editable install lists no files, so there it owns nothing by name: then nobody else may either.
    owners = importlib.metadata.packages_distributions().get(package, ["events-gateway"])
    assert set(owners) == {"events-gateway"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_imported_from_this_checkout(package: str) -> None:
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin == str(ROOT / package / "__init__.py")


def test_no_module_of_ours_imports_the_embedded_server() -> None:
    modules = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(modules) > 40
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not [name for name in names if name.split(".")[0].startswith("secantus")], path


def test_the_whole_gateway_loads_without_the_embedded_server_and_without_tracing() -> None:
    program = "import sys, gateway.cli, gateway.app, schema.root; print([name for name in sys.modules if name.startswith(('secantus', 'opentelemetry'))])"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert found.stdout.strip() == "[]"


def test_the_wheel_brings_the_page_and_its_licences(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, capture_output=True, check=True, cwd=ROOT, timeout=60)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "gateway" / "web" / "graphiql").iterdir()} < names
    assert "gateway/web/graphiql/graphiql.js" in names
    assert {name.rpartition("/")[2] for name in names if ".dist-info/licenses/" in name} == {"LICENSE", "LICENSES.txt"}


def test_the_wheel_may_not_be_uploaded_beside_the_other_schema() -> None:
    metadata = importlib.metadata.metadata("events-gateway")
    assert "Private :: Do Not Upload" in metadata.get_all("Classifier", [])
    assert metadata["License-Expression"] == "Apache-2.0"
    required = [line for line in importlib.metadata.requires("events-gateway") or [] if line.startswith("secantus")]
    assert required
    assert all("extra ==" in line for line in required)
