"""``lstmfcn completion``."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from lstmfcn.commands.pages import OTHER_COMMANDS, app, page
from lstmfcn.terminal import tell_result

ShellName = Literal["bash", "zsh", "fish"]


@page(OTHER_COMMANDS, "lstmfcn completion bash --install", "source <(lstmfcn completion bash)")
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
    if install:
        path = str(app.install_completion(shell=shell))
        tell_result(f"{path}: read by every {shell} from now on", script=path)
    else:
        script = app.generate_completion(shell=shell)
        tell_result(script.rstrip("\n"), text=script)
