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


def label(path):
    """What a file is called in Snakemake's report, with its workload where there are several."""
    inside = Path(path).relative_to(RUN.run)
    several = len(RUN.tables) > 1
    return f"{inside.parts[0]}: {inside.stem}" if several else inside.stem


rule manifest:
    input:
        hosts=HOSTS,
        traces=TRACES,
        images=expand(f"{RUN.base}/kernels/{{arm}}/image.json", arm=RUN.kernels),
        acceleration=rules.probe_acceleration.output,
    output:
        report(
            f"{RUN.run}/manifest.json",
            caption=f"{CAPTIONS}/manifest.rst",
            category="Provenance",
            labels={"file": "manifest", "form": "JSON"},
        ),
    localrule: True
    params:
        experiment=RUN.experiment.model_dump_json(by_alias=True),
    message:
        "Record what ran, on what, from which bytes"
    shell:
        "exec kdelta manifest --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q}"
        " --run {RUN.run:q} --output {output:q}"


rule tables:
    input:
        hosts=HOSTS,
        samples=expand(f"{RAW}/{{arm}}.jsonl", arm=RUN.arms, **BLOCKS),
        traces=TRACES,
        claims=RUN.claims_files(),
        # Whose hashes the raw files are held to.
        manifest=rules.manifest.output,
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
    localrule: True
    params:
        facts=RUN.analysis_facts(),
        regimes=RUN.regimes,
    message:
        "Samples, validity and delta tables"
    shell:
        "exec kdelta analyse --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --raw {RUN.run:q}/raw --output {RUN.run:q}"
