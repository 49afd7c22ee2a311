#!/bin/sh
# Slurm TaskProlog (slurm.conf: TaskProlog=/etc/slurm/task_prolog.sh): what this prints as `export NAME=value` is set for the
# task: CKPTD_RUN, CKPTD_VOLUME and CKPTD_LATEST, as the Prolog of this node found them. It runs as the job's user and needs
# no daemon. A site that has a TaskProlog already calls this from it.
CKPTD_SLURM_RECORDS=/run/ckptd-slurm CKPTCTL=''
defaults=${CKPTD_DEFAULTS:-/etc/default/ckptd}
# shellcheck source=/dev/null
[ -r "$defaults" ] && . "$defaults"
[ -n "$CKPTD_SOCKET" ] && export CKPTD_SOCKET
left="$CKPTD_SLURM_RECORDS/$SLURM_JOB_ID.env"
if [ -r "$left" ]; then
    cat "$left"
elif [ -n "$CKPTD_RUN" ]; then
    # The job's environment names its run, which a Prolog cannot see: asked now, with the user's own rights.
    : "${CKPTCTL:=$(PATH=/opt/ckptd/bin:/usr/bin:/usr/local/bin:$PATH command -v ckptctl)}"
    latest=$(timeout 10 "$CKPTCTL" latest "$CKPTD_RUN" 2>/dev/null) || exit 0
    timeout 10 "$CKPTCTL" prefetch --no-wait "$CKPTD_RUN" >/dev/null 2>&1
    # One line, whatever its name: a second one would be another command.
    [ "$(printf '%s\n' "$latest" | wc -l)" = 1 ] && printf 'export CKPTD_LATEST=%s\n' "$latest"
fi
exit 0
