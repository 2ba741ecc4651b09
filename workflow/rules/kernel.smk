# SPDX-License-Identifier: GPL-2.0-only
# Kernel source and builds. Keyed by params, never by the age of a patch file.


rule fetch_source:
    output:
        RUN.source_record,
    log:
        f"{RUN.base}/kernels/fetch.log",
    retries: 2
    conda:
        "../envs/kdelta.yaml"
    params:
        **EXPERIMENT_FILE,
        key=RUN.fetch_key(),
    message:
        "Fetch the kernel source"
    shell:
        "exec kdelta --messages {log:q} fetch --experiment {params.experiment:q}"
        " --output {output:q}"


# What guests run with comes before the kernels, which are configured for it. Its record is ancient
# to who uses it: the keys in params hold what it says, and not how old it is. (They are functions of
# wildcards alone: of those that are given `input`, Snakemake does not look whether they changed.)
rule probe_acceleration:
    input:
        source=rules.fetch_source.output,
    output:
        RUN.acceleration_record,
    log:
        f"{RUN.base}/kernels/kvm-probe.log",
    conda:
        "../envs/kdelta.yaml"
    threads: all_cores()
    params:
        **EXPERIMENT_FILE,
        key=lambda wildcards: RUN.planned_key(RUN.probe_key),
    message:
        "Does this host run guests with KVM?"
    shell:
        "exec kdelta probe --experiment {params.experiment:q} --source {input.source:q}"
        " --output {output:q} --log {log:q}"


rule build_kernel:
    input:
        source=rules.fetch_source.output,
        acceleration=ancient(RUN.acceleration_record),
        baseline=baseline_objects,
    output:
        image=f"{RUN.base}/kernels/{{arm}}/bzImage",
        config=f"{RUN.base}/kernels/{{arm}}/config",
        record=f"{RUN.base}/kernels/{{arm}}/image.json",
        objects=f"{RUN.base}/kernels/{{arm}}/objects.sha256",
    log:
        f"{RUN.base}/kernels/{{arm}}/build.log",
    conda:
        "../envs/kdelta.yaml"
    # Arms share one build folder, in which only changed objects are compiled again.
    threads: all_cores()
    params:
        **EXPERIMENT_FILE,
        key=lambda wildcards: RUN.planned_build_key(wildcards.arm),
        baseline=lambda wildcards, input: (
            f"--baseline {shlex.quote(str(Path(str(input.baseline)).parent))}"
            if input.baseline
            else ""
        ),
    message:
        "Build the kernel: {wildcards.arm}"
    shell:
        "exec kdelta build --experiment {params.experiment:q} --arm {wildcards.arm:q}"
        " --source {input.source:q} --acceleration {input.acceleration:q}"
        ' --output "$(dirname {output.image:q})" --log {log:q}'
        " {params.baseline} --jobs {threads}"


rule build_workload:
    output:
        RUN.programs,
    log:
        f"{RUN.base}/workload/build.log",
    conda:
        "../envs/kdelta.yaml"
    params:
        **EXPERIMENT_FILE,
        key=RUN.workload_key(),
        folder=folder_of_output,
    message:
        "Build what runs in the guests"
    shell:
        "exec kdelta workload --experiment {params.experiment:q}"
        " --output {params.folder:q} --log {log:q}"
