#!/bin/sh
# Slurm TaskProlog (slurm.conf: TaskProlog=/etc/slurm/task_prolog.sh): what this prints as `export NAME=value` is set for the
# task, as the Prolog of this node found it: CKPTD_RUN, CKPTD_LATEST and others (docs/slurm.md). It runs as the job's user and
# needs no daemon. A site that has a TaskProlog already calls this from it. It exits with 0 whatever happens: the task runs.
trap 'exit 0' EXIT
CKPTD_SLURM_RECORDS=/run/ckptd-slurm CKPTCTL=''
defaults=${CKPTD_DEFAULTS:-/etc/default/ckptd}
# A shell ends at once where a file that it reads in has an unclosed quote. The Prolog has told of it.
# shellcheck source=/dev/null
[ -r "$defaults" ] && sh -n "$defaults" 2>/dev/null && . "$defaults" >/dev/null
[ -n "$CKPTD_SOCKET" ] && export CKPTD_SOCKET
left="$CKPTD_SLURM_RECORDS/$SLURM_JOB_ID.env"
if [ -r "$left" ]; then
    cat "$left"
elif [ -n "$CKPTD_RUN" ]; then
    # The job's environment names its run, which a Prolog cannot see: asked now, with the user's own rights.
    for found in "$CKPTCTL" /opt/ckptd/bin/ckptctl /usr/bin/ckptctl /usr/local/bin/ckptctl "$(command -v ckptctl)"; do
        [ -n "$found" ] && [ -x "$found" ] && break
        found=
    done
    [ -n "$found" ] || exit 0
    latest=$(timeout 10 "$found" latest "$CKPTD_RUN" 2>/dev/null) || exit 0
    timeout 10 "$found" prefetch --no-wait "$CKPTD_RUN" >/dev/null 2>&1
    # One line, whatever its name: a second one would be another command.
    [ "$(printf '%s\n' "$latest" | wc -l)" = 1 ] && printf 'export CKPTD_LATEST=%s\n' "$latest"
fi
