# SPDX-License-Identifier: GPL-2.0-only
# Guests. One job is one block: all arms alive together on one host, running in turns.
from kdelta.workflow import guests_key

# Images, workload and acceleration count by what they are, not by how old their files are: as
# inputs of what is measured they are ancient, and `params` name them. They go through a
# checkpoint, after which snakemake looks once more: hours are spent on a step that gave something
# else than the last time, and not on one that was made again and gave the same.
# Paths, not `rules.X.output`: ancient() would mark that for every rule that names it.
IMAGES = expand(f"{RUN.base}/kernels/{{arm}}/bzImage", arm=RUN.kernels)
RECORDS = expand(f"{RUN.base}/kernels/{{arm}}/image.json", arm=RUN.kernels)
ACCELERATION = RUN.acceleration_record
PROGRAMS = RUN.programs


checkpoint guests:
    input:
        records=RECORDS,
        acceleration=ACCELERATION,
        programs=PROGRAMS,
    output:
        f"{RUN.run}/guests.sha256",
    localrule: True
    message:
        "What guests boot and run"
    shell:
        "sha256sum -- {input:q} > {output:q}"


def guests(wildcards):
    """The checkpoint's file, once it is made."""
    return ancient(checkpoints.guests.get().output[0])


def guest_facts(wildcards):
    """What guests boot and run and what executes them, once that is known."""
    guests(wildcards)
    return guests_key(RECORDS, ACCELERATION, PROGRAMS)


rule measure_block:
    input:
        images=ancient(IMAGES),
        records=ancient(RECORDS),
        programs=ancient(PROGRAMS),
        acceleration=ancient(ACCELERATION),
        guests=guests,
    output:
        schedule=f"{RAW}/schedule.json",
        host=f"{RAW}/host.json",
        samples=[f"{RAW}/{arm}.jsonl" for arm in RUN.arms],
    # As logs, consoles stay when a block fails: they hold the reason.
    log:
        [f"{RAW}/{arm}.console.log" for arm in RUN.arms],
    # A measurement is never retried silently: a boot that fails is a finding.
    retries: 0
    # All cores: nothing may run beside a measurement. A lock on the host says so
    # once more, whatever is typed on the command line.
    threads: all_cores()
    params:
        key=lambda wildcards: RUN.measure_key(wildcards.regime),
        guests=guest_facts,
        kernels=f"{RUN.base}/kernels",
        programs=f"{RUN.base}/programs",
    message:
        "Measure {wildcards.regime}, block {wildcards.block}"
    shell:
        "exec kdelta measure --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q}"
        " --regime {wildcards.regime:q} --block {wildcards.block:q} --key {params.key}"
        " --kernels {params.kernels:q} --programs {params.programs:q}"
        ' --acceleration {input.acceleration:q} --output "$(dirname {output.host:q})"'


# Traced boots, never timed: what the probes of `mechanism` see.
rule trace_mechanism:
    input:
        images=ancient(IMAGES),
        records=ancient(RECORDS),
        programs=ancient(PROGRAMS),
        acceleration=ancient(ACCELERATION),
        guests=guests,
    output:
        [f"{RUN.run}/mechanism/{{regime}}/{arm}.jsonl" for arm in RUN.arms],
    log:
        [f"{RUN.run}/mechanism/{{regime}}/{arm}.console.log" for arm in RUN.arms],
    retries: 0
    threads: all_cores()
    params:
        key=lambda wildcards: RUN.mechanism_key(wildcards.regime),
        guests=guest_facts,
        kernels=f"{RUN.base}/kernels",
        programs=f"{RUN.base}/programs",
    message:
        "Trace the mechanism: {wildcards.regime}"
    shell:
        "exec kdelta mechanism --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q}"
        " --regime {wildcards.regime:q}"
        " --kernels {params.kernels:q} --programs {params.programs:q}"
        ' --acceleration {input.acceleration:q} --output "$(dirname {output[0]:q})"'
