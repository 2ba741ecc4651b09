# SPDX-License-Identifier: GPL-2.0-only
# Tables, figures and report of the runs that ship with the project, from their raw files alone:
#
#     snakemake --cores 2 figures
#
# No kernel, guest, network or right of any kind; results/<experiment>/ is neither read nor written.

# The checkout's own, wherever the command is typed and whatever `results` is set to.
REFERENCE = os.path.relpath(ROOT / "results/reference")
REFERENCES = sorted(
    path.parent.relative_to(REFERENCE).as_posix()
    for path in Path(REFERENCE).glob("*/*/reference.json")
)
SHIPPED = f"{REFERENCE}/{{shipped}}"
AGAIN = "results/from-reference/{shipped}"
PLACES = {
    "shipped": lambda wildcards: SHIPPED.format(**wildcards),
    "again": lambda wildcards: AGAIN.format(**wildcards),
}


wildcard_constraints:
    shipped=r"[^/]+/[^/]+",


rule figures:
    input:
        regenerated,
    localrule: True


rule reference_data:
    input:
        shipped_files,
        code=RUN.sources("reference"),
    output:
        manifest=f"{AGAIN}/manifest.json",
        raw=directory(f"{AGAIN}/raw"),
    log:
        f"{AGAIN}/logs/data.log",
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **PLACES,
    message:
        "Unpack the raw files of {wildcards.shipped}"
    shell:
        "exec kdelta --messages {log:q} reference --unpack {params.shipped:q}"
        " --output {params.again:q}"


# The folder is the root too: the published deltas of the claim check lie in it.
rule reference_tables:
    input:
        rules.reference_data.output,
        code=RUN.sources("analysis"),
    output:
        [f"{AGAIN}/{name}" for name in RESULT_FILES],
    log:
        f"{AGAIN}/logs/tables.log",
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **PLACES,
    message:
        "Samples, validity and delta tables of {wildcards.shipped}"
    shell:
        "exec kdelta --messages {log:q} --root {params.again:q} analyse --run {params.again:q}"


REFERENCE_INPUT = {
    "tables": rules.reference_tables.output,
    "code": RUN.sources("report"),
    "templates": RUN.templates(),
}


rule reference_figures:
    input:
        **REFERENCE_INPUT,
    output:
        directory(f"{AGAIN}/figures"),
    log:
        f"{AGAIN}/logs/figures.log",
    conda:
        "../envs/kdelta.yaml"
    params:
        **PLACES,
    message:
        "Figures of {wildcards.shipped}"
    shell:
        "exec kdelta --messages {log:q} report figures --run {params.again:q}"


# Only after the figures: a figure that changed is seen even where the sums are not met.
rule reference_check:
    input:
        rules.reference_tables.output,
        rules.reference_figures.output,
        sums=f"{SHIPPED}/SHA256SUMS",
    output:
        f"{AGAIN}/SHA256SUMS",
    log:
        f"{AGAIN}/logs/check.log",
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **PLACES,
    message:
        "Compare tables and figures of {wildcards.shipped} with their sums"
    shell:
        "exec kdelta --messages {log:q} reference --check {params.shipped:q}"
        " --output {params.again:q}"


rule reference_text:
    input:
        **REFERENCE_INPUT,
    output:
        f"{AGAIN}/report/tables.txt",
    log:
        f"{AGAIN}/logs/text.log",
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **PLACES,
    message:
        "Tables of {wildcards.shipped} as text"
    shell:
        "exec kdelta --messages {log:q} report text --run {params.again:q}"


rule reference_page:
    input:
        **REFERENCE_INPUT,
        figures=rules.reference_figures.output,
    output:
        f"{AGAIN}/report/index.html",
    log:
        f"{AGAIN}/logs/page.log",
    conda:
        "../envs/kdelta.yaml"
    params:
        **PLACES,
    message:
        "The page of {wildcards.shipped}"
    shell:
        "exec kdelta --messages {log:q} report html --run {params.again:q}"


rule reference_latex:
    input:
        **REFERENCE_INPUT,
        figures=rules.reference_figures.output,
    output:
        f"{AGAIN}/report/paper.tex",
        f"{AGAIN}/report/macros.tex",
        directory(f"{AGAIN}/report/tables"),
    log:
        f"{AGAIN}/logs/latex.log",
    conda:
        "../envs/kdelta.yaml"
    params:
        **PLACES,
    message:
        "The paper of {wildcards.shipped}: sources"
    shell:
        "exec kdelta --messages {log:q} report latex --run {params.again:q}"


rule reference_paper:
    input:
        rules.reference_latex.output,
    output:
        f"{AGAIN}/report/paper.pdf",
    log:
        f"{AGAIN}/logs/paper.log",
    conda:
        "../envs/kdelta.yaml"
    params:
        **PLACES,
    message:
        "The paper of {wildcards.shipped}"
    shell:
        "exec kdelta --messages {log:q} report pdf --run {params.again:q}"
