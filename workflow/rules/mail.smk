# SPDX-License-Identifier: GPL-2.0-only
# The mails for a list, only when asked for: `snakemake --cores 1 series`.

SERIES = f"{RUN.run}/report/series"


rule series:
    input:
        tables=TABLES,
        manifest=rules.manifest.output,
        source=lambda wildcards: RUN.source_record(series_arm(wildcards)),
        prose=series_prose,
        code=RUN.sources("report", "mail"),
        template="report/mail/cover-letter.txt.j2",
    output:
        # Of the mails the cover letter alone: were checkpatch to fail, the patches stay to be looked at.
        cover=f"{SERIES}/{RUN.experiment.mail.file_prefix if RUN.experiment.mail else ''}0000-cover-letter.patch",
        check=f"{RUN.run}/report/series-check.txt",
    # As a log it stays when the job fails: it holds the reason.
    log:
        f"{RUN.run}/report/checkpatch.txt",
    # Signed off by whoever is at this machine.
    localrule: True
    conda:
        "../envs/kdelta.yaml"
    params:
        **THIS_RUN,
        folder=unchecked(SERIES),
        mail=RUN.experiment.mail.model_dump_json() if RUN.experiment.mail else "",
        patches=lambda wildcards: RUN.planned_key(
            series_arm(wildcards),
            lambda series: RUN.patches_key(series_arm(wildcards), series),
        ),
        sender=lambda wildcards: sender_or_nobody(ROOT),
    message:
        "Mails for the list"
    shell:
        "exec kdelta series --experiment {params.experiment:q} --protocol {params.protocol:q}"
        " --run {params.run:q} --output {params.folder:q}"
