# SPDX-License-Identifier: GPL-2.0-only
# The report in its forms. Needs tables and a manifest, neither a kernel nor a guest.
from kdelta.report.figures import figure_stems

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
    localrule: True
    message:
        "Tables as text"
    shell:
        "exec kdelta report text --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"


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
    message:
        "Figures"
    shell:
        "exec kdelta report figures --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"


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
    message:
        "The page"
    shell:
        "exec kdelta report html --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"


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
    message:
        "The paper"
    shell:
        "exec kdelta report paper --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"
