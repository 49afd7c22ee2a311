"""Shell completion: the script to load. Runs, steps and tags are completed by asking the daemon."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, get_completion_class

from ckptctl.app import command

_BASH = """\
%(complete_func)s() {
    # bash cuts words at the characters of COMP_WORDBREAKS, '@' among them: run-42@1200 would be three. What stands before
    # the cursor is split at blanks instead, and what bash takes for the word is cut off the front of each answer.
    local IFS=$' \\t\\n' line="${COMP_LINE:0:COMP_POINT}" words current before response completion kind value
    read -ra words <<< "$line"
    if [[ "$line" == *[[:space:]] ]]; then words+=(""); fi
    current="${words[-1]}" before=""
    for kind in @ = :; do
        value="${current%%"${current##*"$kind"}"}"
        if [[ "$kind" == @ ]]; then value="${value%%@}"; fi  # readline leaves an '@' to the word that it begins
        if [[ "$COMP_WORDBREAKS" == *"$kind"* && ${#value} -gt ${#before} ]]; then before="$value"; fi
    done
    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    while IFS= read -r completion; do
        kind="${completion%%%%,*}"
        value="${completion#*,}"
        case "$kind" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
        esac
    done <<< "$response"
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    source_template = _BASH

    def source(self) -> str:
        """Without click's look at the version of the bash that is installed here: the script may be for another machine."""
        return self.source_template % self.source_vars()


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
    maker = _Bash if shell == "bash" else get_completion_class(shell)
    assert maker is not None
    click.echo(maker(context.find_root().command, {}, "ckptctl", "_CKPTCTL_COMPLETE").source())
