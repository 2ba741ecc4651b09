# SPDX-License-Identifier: GPL-2.0-only
# Guests. One job is one block: all arms alive together on one host, running in turns.

# Images, workload and acceleration count by what they are, not by how old their files are: as
# inputs of what is measured they are ancient, and `params` name them. They go through a
# checkpoint, after which snakemake looks once more: hours are spent on a step that gave something
# else than the last time, and not on one that was made again and gave the same.
# Paths, not `rules.X.output`: ancient() would mark that for every rule that names it.
IMAGES = expand(f"{RUN.base}/kernels/{{arm}}/vmlinuz", arm=RUN.kernels)
RECORDS = expand(f"{RUN.base}/kernels/{{arm}}/image.json", arm=RUN.kernels)
ACCELERATION = RUN.acceleration_record
PROGRAMS = RUN.programs

# One parameter in place of four, and none for a block's folder: each is a function that is asked
# for every job, which of ten thousand took a tenth of the plan's time.
MEASURED = shlex.join(
    [
        *("--experiment", *RUN.experiment_words, "--protocol", RUN.protocol),
        *("--kernels", f"{RUN.base}/kernels", "--programs", f"{RUN.base}/programs"),
    ]
)

# Beside the guests there are Snakemake's own processes: three of them in a cluster's job.
BLOCK_MEMORY = RUN.guests_memory_mib + 1000


checkpoint guests:
    input:
        records=RECORDS,
        acceleration=ACCELERATION,
        programs=PROGRAMS,
    output:
        f"{RUN.run}/guests.sha256",
    log:
        f"{RUN.run}/logs/guests.log",
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    message:
        "What guests boot and run"
    shell:
        "sha256sum -- {input:q} > {output:q} 2> {log:q}"


rule measure_block:
    input:
        images=ancient(IMAGES),
        records=ancient(RECORDS),
        programs=ancient(PROGRAMS),
        acceleration=ancient(ACCELERATION),
        guests=guests_file,
    output:
        schedule=f"{RAW}/schedule.json",
        host=f"{RAW}/host.json",
        samples=[f"{RAW}/{arm}.jsonl" for arm in RUN.arms],
    # As logs, consoles stay when a block fails: they hold the reason.
    log:
        [f"{RAW}/{arm}.console.log" for arm in RUN.arms],
    # A measurement is never retried silently: a boot that fails is a finding.
    retries: 0
    conda:
        "../envs/kdelta.yaml"
    # All cores: nothing may run beside a measurement. A lock on the host says so
    # once more, whatever is typed on the command line.
    threads: all_cores()
    resources:
        mem_mb=BLOCK_MEMORY,
    params:
        words=unchecked(MEASURED),
        key=asked_often(lambda wildcards: measure_key(wildcards.regime)),
        guests=guest_facts,
    message:
        "Measure {wildcards.regime}, block {wildcards.block}"
    shell:
        "exec kdelta measure {params.words} --regime {wildcards.regime:q}"
        " --block {wildcards.block:q} --key {params.key}.{params.guests}"
        ' --acceleration {input.acceleration:q} --output "$(dirname -- {output.host:q})"'


# Traced boots, never timed: what the probes of `mechanism` see.
rule trace_mechanism:
    input:
        images=ancient(IMAGES),
        records=ancient(RECORDS),
        programs=ancient(PROGRAMS),
        acceleration=ancient(ACCELERATION),
        guests=guests_file,
    output:
        [f"{RUN.run}/mechanism/{{regime}}/{arm}.jsonl" for arm in RUN.arms],
    log:
        [f"{RUN.run}/mechanism/{{regime}}/{arm}.console.log" for arm in RUN.arms],
    retries: 0
    conda:
        "../envs/kdelta.yaml"
    threads: all_cores()
    resources:
        mem_mb=BLOCK_MEMORY,
    params:
        words=unchecked(MEASURED),
        key=lambda wildcards: mechanism_key(wildcards.regime),
        guests=guest_facts,
        folder=folder_of_output,
    message:
        "Trace the mechanism: {wildcards.regime}"
    shell:
        "exec kdelta mechanism {params.words} --regime {wildcards.regime:q}"
        " --acceleration {input.acceleration:q} --output {params.folder:q}"
