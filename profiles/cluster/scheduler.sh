#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# What Snakemake asks of a scheduler other than SLURM.
#
# Usage: scheduler.sh KIND submit CORES MEM_MB MINUTES ALONE QUEUE ACCOUNT NODES JOBSCRIPT
#        scheduler.sh KIND status JOB
#   KIND            pbs (OpenPBS, PBS Pro), lsf or htcondor
#   ALONE           yes: a job that measures: it has its node, one of NODES, to itself
#   QUEUE, ACCOUNT  "": the default, or none
#   NODES           words of the scheduler's own that choose nodes of one kind; "": any
#
# `submit` prints the job's number. `status` prints "running", or "success" once the scheduler says
# that the job is over, or does not know it any more: whether it made its files, Snakemake looks
# itself. A scheduler that does not answer has said neither.
set -eu

kind=$1 verb=$2
shift 2

submit() {
    cores=$1 mem=$2 minutes=$3 alone=$4 queue=$5 account=$6 nodes=$7 script=$8
    [ "$alone" = yes ] || nodes=
    logs=$PWD/.snakemake/cluster_logs
    mkdir -p "$logs"
    log=$logs/$(basename "$script").log
    case $kind in
    pbs)
        set -- -V -j oe -o "$log" -l "walltime=$minutes:00" \
            -l "select=1:ncpus=$cores:mem=${mem}mb${nodes:+:$nodes}"
        [ "$alone" != yes ] || set -- "$@" -l place=excl
        [ -z "$queue" ] || set -- "$@" -q "$queue"
        [ -z "$account" ] || set -- "$@" -A "$account"
        qsub "$@" "$script"
        ;;
    lsf)
        set -- -n "$cores" -M "${mem}MB" -W "$minutes" -o "$log" \
            -R "span[hosts=1] rusage[mem=${mem}MB]"
        [ "$alone" != yes ] || set -- "$@" -x
        [ -z "$nodes" ] || set -- "$@" -R "select[$nodes]"
        [ -z "$queue" ] || set -- "$@" -q "$queue"
        [ -z "$account" ] || set -- "$@" -P "$account"
        # Job <12> is submitted to queue <normal>.
        bsub "$@" "$script" | sed -n 's/^Job <\([0-9]*\)>.*/\1/p'
        ;;
    htcondor)
        # It has neither queues nor jobs that are alone on a machine: let them ask for all cores.
        {
            printf '%s = %s\n' executable "$script" getenv True request_cpus "$cores" \
                request_memory "$mem" output "$log" error "$log" log "$log.events" \
                periodic_remove "(JobStatus == 2) && (time() - JobCurrentStartDate > $((minutes * 60)))"
            [ -z "$nodes" ] || printf 'requirements = %s\n' "$nodes"
            [ -z "$account" ] || printf 'accounting_group = %s\n' "$account"
            echo queue
        } | condor_submit -terse - | cut -d' ' -f1
        ;;
    esac
}

status() {
    case $kind in
    pbs)
        case $(qstat -f "$1" 2>&1) in
        *"job_state = F"* | *"Unknown Job"* | *"has finished"*) echo success ;;
        *) echo running ;;
        esac
        ;;
    lsf)
        case $(bjobs -noheader -o stat "$1" 2>&1) in
        DONE* | EXIT* | *"is not found"*) echo success ;;
        *) echo running ;;
        esac
        ;;
    htcondor)
        # 3: removed, 4: completed; nothing: it has left the queue.
        case $(condor_q "$1" -af JobStatus 2>/dev/null || echo silent) in
        '' | 3 | 4) echo success ;;
        *) echo running ;;
        esac
        ;;
    esac
}

case $kind in
pbs | lsf | htcondor) "$verb" "$@" ;;
*)
    echo "scheduler.sh: no scheduler $kind (there are: pbs, lsf, htcondor)" >&2
    exit 2
    ;;
esac
