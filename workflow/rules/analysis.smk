# SPDX-License-Identifier: GPL-2.0-only
# Raw records to tidy samples and delta tables: cheap, and rerun when their code changes.
BLOCKS = {"regime": RUN.regimes, "block": RUN.blocks}
HOSTS = expand(f"{RAW}/host.json", **BLOCKS)
TABLES = [
    f"{RUN.run}/{name}"
    for name in (
        "samples.csv",
        "validity.csv",
        "tables/deltas.csv",
        "tables/overall.csv",
        "tables/control.csv",
        "tables/ratios.csv",
    )
]


rule manifest:
    input:
        hosts=HOSTS,
        images=expand(rules.build_kernel.output.record, variant=RUN.variants),
        acceleration=rules.probe_acceleration.output,
    output:
        f"{RUN.run}/manifest.json",
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
        code=RUN.sources("analysis"),
    output:
        TABLES,
    localrule: True
    params:
        # What of the experiment the tables depend on, besides the raw files.
        arms=RUN.arms,
        regimes=RUN.regimes,
        statistics=RUN.experiment.statistics.model_dump_json(),
    message:
        "Samples, validity and delta tables"
    shell:
        "exec kdelta analyse --experiment {EXPERIMENT:q} --protocol {RUN.protocol:q} --raw {RUN.run:q}/raw --output {RUN.run:q}"
