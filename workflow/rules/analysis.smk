# SPDX-License-Identifier: GPL-2.0-only
# Raw records to tidy samples and delta tables: cheap, and rerun when their code changes.
from kdelta.schema import RESULT_FILES

BLOCKS = {"regime": RUN.regimes, "block": RUN.blocks}
HOSTS = expand(f"{RAW}/host.json", **BLOCKS)
TRACES = expand(
    f"{RUN.run}/mechanism/{{regime}}/{{arm}}.jsonl",
    regime=RUN.mechanism_regimes,
    arm=RUN.arms,
)
TABLES = [f"{folder}/{name}" for folder in RUN.tables for name in RESULT_FILES]
CAPTIONS = "../../report/workflow"
# Paths, not `rules.X.output`: of a rule that names another, Snakemake looks for each of its files
# among the whole list, and these lists have ten thousand.
MANIFEST = f"{RUN.run}/manifest.json"


rule manifest:
    input:
        hosts=HOSTS,
        traces=TRACES,
        images=expand(f"{RUN.base}/kernels/{{arm}}/image.json", arm=RUN.kernels),
        acceleration=RUN.acceleration_record,
    output:
        report(
            MANIFEST,
            caption=f"{CAPTIONS}/manifest.rst",
            category="Provenance",
            labels={"file": "manifest", "form": "JSON"},
        ),
    log:
        f"{RUN.run}/logs/manifest.log",
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **THIS_RUN,
        facts=RUN.experiment.model_dump_json(by_alias=True),
    message:
        "Record what ran, on what, from which bytes"
    shell:
        "exec kdelta --messages {log:q} manifest --experiment {params.experiment:q}"
        " --protocol {params.protocol:q} --run {params.run:q} --output {output:q}"


rule tables:
    input:
        hosts=HOSTS,
        samples=expand(f"{RAW}/{{arm}}.jsonl", arm=RUN.arms, **BLOCKS),
        traces=TRACES,
        claims=RUN.claims_files(),
        # Whose hashes the raw files are held to.
        manifest=MANIFEST,
        code=RUN.sources("analysis"),
    output:
        [
            report(
                path,
                caption=f"{CAPTIONS}/table.rst",
                category="Tables",
                labels={"table": label(path)},
            )
            for path in TABLES
        ],
    log:
        f"{RUN.run}/logs/tables.log",
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **THIS_RUN,
        facts=RUN.analysis_facts(),
        regimes=RUN.regimes,
    message:
        "Samples, validity and delta tables"
    shell:
        "exec kdelta --messages {log:q} analyse --experiment {params.experiment:q}"
        " --protocol {params.protocol:q} --raw {params.run:q}/raw --output {params.run:q}"
