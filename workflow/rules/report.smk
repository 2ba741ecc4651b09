# SPDX-License-Identifier: GPL-2.0-only
# The report in its forms. Needs tables and a manifest, neither a kernel nor a guest.
from kdelta.report.metrics import figure_stems

REPORT_INPUT = {
    "tables": TABLES,
    "manifest": rules.manifest.output,
    "code": RUN.sources("report"),
    "templates": RUN.templates(),
}
FIGURES = figure_stems(
    RUN.experiment.workload.declaration, mechanism=bool(RUN.mechanism_regimes)
)


rule text:
    input:
        **REPORT_INPUT,
    output:
        report(
            f"{RUN.run}/report/tables.txt",
            caption=f"{CAPTIONS}/text.rst",
            category="Report",
            labels={"form": "text"},
        ),
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
                f"{RUN.run}/figures/{stem}.svg",
                caption=f"{CAPTIONS}/figure.rst",
                category="Figures",
                labels={"figure": stem},
            )
            for stem in FIGURES
        ],
        [f"{RUN.run}/figures/{stem}.pdf" for stem in FIGURES],
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
        report(
            f"{RUN.run}/report/index.html",
            caption=f"{CAPTIONS}/page.rst",
            category="Report",
            labels={"form": "page"},
        ),
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
        tex=f"{RUN.run}/report/paper.tex",
        macros=f"{RUN.run}/report/macros.tex",
        pieces=directory(f"{RUN.run}/report/tables"),
        pdf=report(
            f"{RUN.run}/report/paper.pdf",
            caption=f"{CAPTIONS}/paper.rst",
            category="Report",
            labels={"form": "paper"},
        ),
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
