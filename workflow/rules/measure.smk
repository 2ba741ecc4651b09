# SPDX-License-Identifier: GPL-2.0-only
# Guests. One job is one block: every arm booted once, back to back, on one host.


rule measure_block:
    input:
        images=expand(f"{RUN.base}/kernels/{{variant}}/bzImage", variant=RUN.variants),
        records=expand(
            f"{RUN.base}/kernels/{{variant}}/image.json", variant=RUN.variants
        ),
        workload=rules.build_workload.output,
        acceleration=rules.probe_acceleration.output,
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
        kernels=f"{RUN.base}/kernels",
    message:
        "Measure {wildcards.regime}, block {wildcards.block}"
    shell:
        "exec kdelta measure --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q}"
        " --regime {wildcards.regime:q} --block {wildcards.block:q} --key {params.key}"
        " --kernels {params.kernels:q} --workload {input.workload:q}"
        ' --acceleration {input.acceleration:q} --output "$(dirname {output.host:q})"'


# Traced boots, never timed: where pages are allocated and who waits for the lock.
rule trace_mechanism:
    input:
        images=rules.measure_block.input.images,
        records=rules.measure_block.input.records,
        workload=rules.build_workload.output,
        acceleration=rules.probe_acceleration.output,
    output:
        [f"{RUN.run}/mechanism/{{regime}}/{arm}.jsonl" for arm in RUN.arms],
    log:
        [f"{RUN.run}/mechanism/{{regime}}/{arm}.console.log" for arm in RUN.arms],
    retries: 0
    threads: all_cores()
    params:
        key=lambda wildcards: RUN.mechanism_key(wildcards.regime),
        kernels=f"{RUN.base}/kernels",
    message:
        "Trace the mechanism: {wildcards.regime}"
    shell:
        "exec kdelta mechanism --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q}"
        " --regime {wildcards.regime:q}"
        " --kernels {params.kernels:q} --workload {input.workload:q}"
        ' --acceleration {input.acceleration:q} --output "$(dirname {output[0]:q})"'
