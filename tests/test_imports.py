"""The layers of the package: imports point down only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import arlon_cli

PACKAGE = Path(arlon_cli.__file__).parent
LAYERS = (
    {"cli"},
    {"pipeline", "training", "evaluation"},
    {"sampling", "storage", "dioramas"},
    {"models"},
    {"presets"},
    {"config"},
    {"errors", "__init__"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
# a checkpoint builds the parts that it loads
BUILDS_MODELS = PACKAGE / "storage" / "checkpoint.py"


def own_imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [node.module or ""]
            if node.module == "arlon_cli":
                names = [f"arlon_cli.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "arlon_cli":
                yield parts[1] if len(parts) > 1 and parts[1] in LEVEL else "__init__"


def test_imports_point_down() -> None:
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in own_imports(file):
            if name != own and LEVEL[name] <= LEVEL[own]:
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
            if own == "storage" and name == "models" and file != BUILDS_MODELS:
                wrong.append(f"{file.relative_to(PACKAGE)} imports a model")
    assert not wrong


def test_only_the_command_line_prints() -> None:
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        if file.relative_to(PACKAGE).parts[0] == "cli":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            if prints and not any(keyword.arg == "file" for keyword in node.keywords):
                wrong.append(f"{file.relative_to(PACKAGE)}:{node.lineno}")
    assert not wrong


def test_help_and_presets_need_no_torch() -> None:
    code = (
        "import sys; from arlon_cli.cli.app import run; import arlon_cli.config\n"
        "commands = ['generate', 'extend', 'encode', 'decode', 'train diorama', 'train dit', 'evaluate', 'bench']\n"
        "for line in ('--help', *(f'{command} --help' for command in commands), '--version'): run(line.split())\n"
        "found = {'torch', 'numpy', 'transformers', 'rich'} & sys.modules.keys()\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_embedded_model_is_loaded_without_libraries_that_take_seconds_to_import(tiny_checkpoint: Path) -> None:
    code = (
        "import sys, torch; from pathlib import Path\n"
        "import arlon_cli.cli.render, arlon_cli.pipeline.pipeline\n"
        "from arlon_cli.storage.checkpoint import PARTS, Checkpoint\n"
        "checkpoint = Checkpoint(Path(sys.argv[1]))\n"
        "for part in PARTS: checkpoint.load(part, 'cpu', torch.float32)\n"
        "found = {'transformers', 'torch._dynamo', 'sympy'} & sys.modules.keys()\n"
        "sys.exit(f'imported {found}' if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_checkpoint)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
