# SPDX-License-Identifier: GPL-2.0-only
# The results for other tools: `snakemake --cores 1 exports`. Nothing else needs them.


rule exports:
    input:
        tables=TABLES,
        manifest=rules.manifest.output,
        code=RUN.sources("export"),
    output:
        go=[
            report(
                f"{folder}/exports/go/{arm}.txt",
                caption=f"{CAPTIONS}/go.rst",
                category="Tables",
                labels={"table": f"samples of {arm}, Go benchmark format"},
            )
            for folder in RUN.tables
            for arm in RUN.arms
        ],
        samples=[
            report(
                f"{folder}/exports/samples.csv.gz",
                caption=f"{CAPTIONS}/samples.rst",
                category="Tables",
                labels={"table": "all samples, compressed"},
            )
            for folder in RUN.tables
        ],
        descriptor=[
            report(
                f"{folder}/datapackage.json",
                caption=f"{CAPTIONS}/datapackage.rst",
                category="Provenance",
                labels={"file": "data package", "form": "JSON"},
            )
            for folder in RUN.tables
        ],
    log:
        f"{RUN.run}/logs/exports.log",
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **THIS_RUN,
    message:
        "Exports"
    shell:
        "exec kdelta --messages {log:q} export {params.run:q}"
