# SPDX-License-Identifier: GPL-2.0-only
# Kernel source and builds. Keyed by params, never by the age of a patch file.


SOURCES = RUN.sources_of


rule fetch_source:
    output:
        f"{RUN.base}/kernels/{{source}}.json",
    log:
        f"{RUN.base}/kernels/{{source}}.fetch.log",
    wildcard_constraints:
        source="|".join(map(re.escape, SOURCES)) or "(?!)",
    retries: 2
    # A cluster's nodes often reach no network, the machine that one logs in to does.
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **EXPERIMENT_FILE,
        key=lambda wildcards: RUN.fetch_key(SOURCES[wildcards.source]),
        arm=lambda wildcards: SOURCES[wildcards.source],
    message:
        "Fetch the kernel source"
    shell:
        "exec kdelta --messages {log:q} fetch --experiment {params.experiment:q}"
        " --arm {params.arm:q} --output {output:q}"


# What guests run with comes before the kernels, which are configured for it. Its record is ancient
# to who uses it: the keys in params hold what it says, and not how old it is. (They are functions of
# wildcards alone: of those that are given `input`, Snakemake does not look whether they changed.)
rule probe_acceleration:
    input:
        source=baseline_source,
    output:
        RUN.acceleration_record,
    log:
        f"{RUN.base}/kernels/kvm-probe.log",
    conda:
        "../envs/kdelta.yaml"
    threads: all_cores()
    params:
        **EXPERIMENT_FILE,
        key=lambda wildcards: RUN.planned_probe_key(),
        source=source_option,
    message:
        "Does this host run guests with KVM?"
    shell:
        "exec kdelta probe --experiment {params.experiment:q} {params.source}"
        " --output {output:q} --log {log:q}"


rule build_kernel:
    input:
        source=lambda wildcards: RUN.source_record(wildcards.arm),
        acceleration=ancient(RUN.acceleration_record),
        baseline=baseline_objects,
    output:
        image=f"{RUN.base}/kernels/{{arm}}/vmlinuz",
        config=f"{RUN.base}/kernels/{{arm}}/config",
        record=f"{RUN.base}/kernels/{{arm}}/image.json",
        objects=f"{RUN.base}/kernels/{{arm}}/objects.sha256",
        symbols=f"{RUN.base}/kernels/{{arm}}/symbols.tsv.gz",
    log:
        f"{RUN.base}/kernels/{{arm}}/build.log",
    wildcard_constraints:
        arm=f"(?!({'|'.join(map(re.escape, RUN.ready)) or '/'})/)[^/]+",
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


# A kernel that was built elsewhere: looked into, and booted where it lies.
rule take_image:
    output:
        image=f"{RUN.base}/kernels/{{arm}}/vmlinuz",
        record=f"{RUN.base}/kernels/{{arm}}/image.json",
    log:
        f"{RUN.base}/kernels/{{arm}}/take.log",
    wildcard_constraints:
        arm="|".join(map(re.escape, RUN.ready)) or "(?!)",
    # A second's work that may find a mistake: before a kernel is built for minutes.
    priority: 1
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **EXPERIMENT_FILE,
        folder=folder_of_output,
        key=lambda wildcards: RUN.take_key(wildcards.arm),
    message:
        "Take the kernel as it is: {wildcards.arm}"
    shell:
        "exec kdelta --messages {log:q} take --experiment {params.experiment:q}"
        " --arm {wildcards.arm:q} --output {params.folder:q}"


rule build_programs:
    input:
        source=RUN.programs_source,
    output:
        RUN.programs,
    log:
        f"{RUN.base}/programs/build.log",
    # Seconds, and for guests of another architecture it takes the network too.
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **EXPERIMENT_FILE,
        key=RUN.programs_key(),
        source=source_option,
        folder=folder_of_output,
    message:
        "Build what runs in the guests"
    shell:
        "exec kdelta programs --experiment {params.experiment:q} {params.source}"
        " --output {params.folder:q} --log {log:q}"
