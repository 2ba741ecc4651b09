# SPDX-License-Identifier: GPL-2.0-only
# Kernel source and builds. Keyed by params, never by the age of a patch file.


SOURCES = RUN.sources_of


rule fetch_source:
    output:
        f"{RUN.base}/kernels/{{source}}.json",
    wildcard_constraints:
        source="|".join(map(re.escape, SOURCES)) or "(?!)",
    retries: 2
    params:
        key=lambda wildcards: RUN.fetch_key(SOURCES[wildcards.source]),
        arm=lambda wildcards: SOURCES[wildcards.source],
    message:
        "Fetch the kernel source"
    shell:
        "exec kdelta fetch --experiment {EXPERIMENT:q} --arm {params.arm:q} --output {output:q}"


def baseline_source(wildcards):
    """The record of what the baseline is built from, if it is."""
    baseline = RUN.experiment.baseline
    return [] if baseline in RUN.ready else RUN.source_record(baseline)


def baseline_objects(wildcards):
    """The baseline's object hashes, which every other arm's are compared with."""
    if wildcards.arm == RUN.experiment.baseline or RUN.experiment.baseline in RUN.ready:
        return []
    return f"{RUN.base}/kernels/{RUN.experiment.baseline}/objects.sha256"


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
    threads: all_cores()
    params:
        key=lambda wildcards: RUN.planned_probe_key(),
        source=lambda wildcards, input: (
            f"--source {shlex.quote(str(input.source))}" if input.source else ""
        ),
    message:
        "Does this host run guests with KVM?"
    shell:
        "exec kdelta probe --experiment {EXPERIMENT:q} {params.source}"
        " --output {output:q} --log {log:q}"


rule build_kernel:
    input:
        source=lambda wildcards: RUN.source_record(wildcards.arm),
        acceleration=ancient(RUN.acceleration_record),
        baseline=baseline_objects,
    output:
        image=f"{RUN.base}/kernels/{{arm}}/bzImage",
        config=f"{RUN.base}/kernels/{{arm}}/config",
        record=f"{RUN.base}/kernels/{{arm}}/image.json",
        objects=f"{RUN.base}/kernels/{{arm}}/objects.sha256",
        symbols=f"{RUN.base}/kernels/{{arm}}/symbols.tsv.gz",
    log:
        f"{RUN.base}/kernels/{{arm}}/build.log",
    wildcard_constraints:
        arm=f"(?!({'|'.join(map(re.escape, RUN.ready)) or '/'})/)[^/]+",
    # Arms share one build folder, in which only changed objects are compiled again.
    threads: all_cores()
    params:
        key=lambda wildcards: RUN.planned_build_key(wildcards.arm),
        baseline=lambda wildcards, input: (
            f"--baseline {shlex.quote(str(Path(str(input.baseline)).parent))}"
            if input.baseline
            else ""
        ),
    message:
        "Build the kernel: {wildcards.arm}"
    shell:
        "exec kdelta build --experiment {EXPERIMENT:q} --arm {wildcards.arm:q}"
        " --source {input.source:q} --acceleration {input.acceleration:q}"
        ' --output "$(dirname {output.image:q})" --log {log:q}'
        " {params.baseline} --jobs {threads}"


# A kernel that was built elsewhere: looked into, and booted where it lies.
rule take_image:
    output:
        image=f"{RUN.base}/kernels/{{arm}}/bzImage",
        record=f"{RUN.base}/kernels/{{arm}}/image.json",
    wildcard_constraints:
        arm="|".join(map(re.escape, RUN.ready)) or "(?!)",
    localrule: True
    params:
        key=lambda wildcards: RUN.take_key(wildcards.arm),
    message:
        "Take the kernel as it is: {wildcards.arm}"
    shell:
        "exec kdelta take --experiment {EXPERIMENT:q} --arm {wildcards.arm:q}"
        ' --output "$(dirname {output.image:q})"'


rule build_programs:
    input:
        source=RUN.programs_source,
    output:
        RUN.programs,
    log:
        f"{RUN.base}/programs/build.log",
    params:
        key=RUN.programs_key(),
        source=lambda wildcards, input: (
            f"--source {shlex.quote(str(input.source))}" if input.source else ""
        ),
    message:
        "Build what runs in the guests"
    shell:
        "exec kdelta programs --experiment {EXPERIMENT:q} {params.source}"
        ' --output "$(dirname {output[0]:q})" --log {log:q}'
