# SPDX-License-Identifier: GPL-2.0-only
# The report in its forms. Needs tables and a manifest, neither a kernel nor a guest.
from kdelta.report.metrics import figure_stems

REPORT_INPUT = {
    "tables": TABLES,
    "manifest": rules.manifest.output,
    "code": RUN.sources("report"),
    "templates": RUN.templates(),
}


rule text:
    input:
        **REPORT_INPUT,
    output:
        f"{RUN.run}/report/tables.txt",
    localrule: True
    message:
        "Tables as text"
    shell:
        "exec kdelta report text --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"


rule figures:
    input:
        **REPORT_INPUT,
    output:
        [
            f"{RUN.run}/figures/{stem}.{end}"
            for stem in figure_stems()
            for end in ("svg", "pdf")
        ],
    message:
        "Figures"
    shell:
        "exec kdelta report figures --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"


rule page:
    input:
        **REPORT_INPUT,
        figures=rules.figures.output,
    output:
        f"{RUN.run}/report/index.html",
    message:
        "The page"
    shell:
        "exec kdelta report html --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"


rule paper:
    input:
        **REPORT_INPUT,
        figures=rules.figures.output,
    output:
        tex=f"{RUN.run}/report/paper.tex",
        pdf=f"{RUN.run}/report/paper.pdf",
    message:
        "The paper"
    shell:
        "exec kdelta report paper --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --run {RUN.run:q}"
