"""``lstmfcn completion``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from lstmfcn.cli.app import SHELL_COMMANDS, app, page
from lstmfcn.console import print_result

ShellName = Literal["bash", "zsh", "fish"]


@page(
    SHELL_COMMANDS,
    "bash|zsh|fish [OPTIONS]",
    "lstmfcn completion bash --install",
    "source <(lstmfcn completion bash)",
)
def completion(
    shell: ShellName,
    /,
    *,
    install: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Let TAB complete commands, flags and choices: print or install a script for your shell.

    Parameters
    ----------
    shell
        Your shell.
    install
        Write the script where the shell finds it, and load it in the shell's start-up file.
    """
    script = app.generate_completion(shell=shell)
    if shell == "bash":  # a folder's name then ends in a slash, and can be completed further
        script = script.replace("complete -F ", "complete -o filenames -F ")
    if install:
        path = app.install_completion(shell=shell)
        path.write_text(script, encoding="utf-8")
        print_result(f"{path}: read by every new {shell}", path=str(path))
    else:
        print_result(script.rstrip("\n"), script=script)
