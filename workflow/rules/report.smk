# SPDX-License-Identifier: GPL-2.0-only
# The report in its forms. Needs tables and a manifest, neither a kernel nor a guest.
from kdelta.report.figures import figure_stems

REPORT_INPUT = {
    "tables": TABLES,
    "manifest": rules.manifest.output,
    "code": RUN.sources("report"),
    "templates": RUN.templates(),
}
FIGURES = [
    f"{RUN.run}/{folder}/figures/{stem}".replace("//", "/")
    for folder, one in RUN.experiment.each_workload()
    for stem in figure_stems(
        one.workload.declaration,
        mechanism=bool(one.mechanism_regimes(RUN.protocol))
        and "pipe-allocation" in one.probes,
    )
]
REPORTS = [f"{folder}/report" for folder in RUN.tables]


rule text:
    input:
        **REPORT_INPUT,
    output:
        [
            report(
                f"{folder}/tables.txt",
                caption=f"{CAPTIONS}/text.rst",
                category="Report",
                labels={"form": label(f"{folder}/text")},
            )
            for folder in REPORTS
        ],
    log:
        f"{RUN.run}/logs/text.log",
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **THIS_RUN,
    message:
        "Tables as text"
    shell:
        "exec kdelta --messages {log:q} report text --experiment {params.experiment:q}"
        " --protocol {params.protocol:q} --run {params.run:q}"


rule run_figures:
    input:
        **REPORT_INPUT,
    output:
        [
            report(
                f"{path}.svg",
                caption=f"{CAPTIONS}/figure.rst",
                category="Figures",
                labels={"figure": label(path)},
            )
            for path in FIGURES
        ],
        [f"{path}.pdf" for path in FIGURES],
    log:
        f"{RUN.run}/logs/run_figures.log",
    conda:
        "../envs/kdelta.yaml"
    params:
        **THIS_RUN,
    message:
        "Figures"
    shell:
        "exec kdelta --messages {log:q} report figures --experiment {params.experiment:q}"
        " --protocol {params.protocol:q} --run {params.run:q}"


rule page:
    input:
        **REPORT_INPUT,
        figures=rules.run_figures.output,
    output:
        [
            report(
                f"{folder}/index.html",
                caption=f"{CAPTIONS}/page.rst",
                category="Report",
                labels={"form": label(f"{folder}/page")},
            )
            for folder in REPORTS
        ],
    log:
        f"{RUN.run}/logs/page.log",
    conda:
        "../envs/kdelta.yaml"
    params:
        **THIS_RUN,
    message:
        "The page"
    shell:
        "exec kdelta --messages {log:q} report html --experiment {params.experiment:q}"
        " --protocol {params.protocol:q} --run {params.run:q}"


rule paper:
    input:
        **REPORT_INPUT,
        figures=rules.run_figures.output,
    output:
        [
            f"{folder}/{name}"
            for folder in REPORTS
            for name in ("paper.tex", "macros.tex")
        ],
        [directory(f"{folder}/tables") for folder in REPORTS],
        pdf=[
            report(
                f"{folder}/paper.pdf",
                caption=f"{CAPTIONS}/paper.rst",
                category="Report",
                labels={"form": label(f"{folder}/paper")},
            )
            for folder in REPORTS
        ],
    log:
        f"{RUN.run}/logs/paper.log",
    conda:
        "../envs/kdelta.yaml"
    params:
        **THIS_RUN,
    message:
        "The paper"
    shell:
        "exec kdelta --messages {log:q} report paper --experiment {params.experiment:q}"
        " --protocol {params.protocol:q} --run {params.run:q}"
