"""aider, which edits a file of a repository and commits it; it knows nothing of ours but base URLs and keys in its environment."""

import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.append(str(pathlib.Path(__file__).parent.parent / "python"))
from scenarios import serve  # noqa: E402

LLM = os.environ["LLM"]


def git(folder, *words):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    run = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True)
    return run.stdout.strip()


def edit(provider, stream):
    with tempfile.TemporaryDirectory() as home:
        folder = pathlib.Path(home) / "repository"
        folder.mkdir()
        (folder / "hello.py").write_text('print("hi")\n')
        git(folder, "init", "--quiet")
        git(folder, "config", "user.name", "Test")
        git(folder, "config", "user.email", "test@example.com")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "--message", "Begin")
        words = [
            *("--model", f"{provider}/{LLM}", "--edit-format", "diff", "--map-tokens", "0", "--yes-always"),
            *("--no-check-update", "--no-analytics", "--no-show-model-warnings", "--no-gitignore", "--no-pretty"),
            *("--stream" if stream else "--no-stream", "--message", "Say hello instead", "hello.py"),
        ]
        run = subprocess.run(
            [sys.executable, "-m", "aider", *words],
            cwd=folder,
            env=os.environ | {"HOME": home},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        file, commit = (folder / "hello.py").read_text(), git(folder, "log", "-1", "--format=%s")
        if "hello" not in file:
            raise RuntimeError(run.stdout + run.stderr)
        return {"file": file, "commit": commit}


serve(
    {
        "chat edit": lambda: edit("openai", False),
        "chat edit, streamed": lambda: edit("openai", True),
        "messages edit": lambda: edit("anthropic", False),
        "messages edit, streamed": lambda: edit("anthropic", True),
    }
)
