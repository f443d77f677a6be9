"""``lstmfcn completion``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from lstmfcn.commands.pages import SHELL_COMMANDS, app, page
from lstmfcn.terminal import tell_result

ShellName = Literal["bash", "zsh", "fish"]


@page(SHELL_COMMANDS, "lstmfcn completion bash --install", "source <(lstmfcn completion bash)")
def completion(
    shell: ShellName,
    /,
    *,
    install: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Complete commands, flags and choices at TAB: print the script for a shell, or install it.

    Parameters
    ----------
    shell
        The shell.
    install
        Write the script where the shell looks for it, and name it in its start-up file.
    """
    script = app.generate_completion(shell=shell)
    if shell == "bash":  # a folder's name then ends in a slash, and goes on from there
        script = script.replace("complete -F ", "complete -o filenames -F ")
    if install:
        path = app.install_completion(shell=shell)
        path.write_text(script, encoding="utf-8")
        tell_result(f"{path}: read by every new {shell}", path=str(path))
    else:
        tell_result(script.rstrip("\n"), script=script)
