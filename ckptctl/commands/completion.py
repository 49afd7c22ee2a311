"""Shell completion: the script to load. Runs and steps are completed by asking the daemon."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ckptctl.app import command


@command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: ckptctl completion bash > ~/.local/share/bash-completion/completions/ckptctl
    zsh:  ckptctl completion zsh > a file _ckptctl in a directory of $fpath
    fish: ckptctl completion fish > ~/.config/fish/completions/ckptctl.fish
    """  # noqa: D301 - \b is click's mark for a paragraph that is not to be wrapped
    maker = get_completion_class(shell)
    assert maker is not None
    click.echo(maker(context.find_root().command, {}, "ckptctl", "_CKPTCTL_COMPLETE").source())
