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
                f"{path}.svg",
                caption=f"{CAPTIONS}/figure.rst",
                category="Figures",
                labels={"figure": label(path)},
            )
            for path in FIGURES
        ],
        [f"{path}.pdf" for path in FIGURES],
    message:
        "Figures"
    shell:
        "exec kdelta report figures --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"


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
    message:
        "The page"
    shell:
        "exec kdelta report html --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"


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
    message:
        "The paper"
    shell:
        "exec kdelta report paper --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"
