# SPDX-License-Identifier: GPL-2.0-only
# kdelta: from a kernel source, a patch series and a benchmark to delta tables.
#
#     snakemake --cores 16                            the experiment of config/config.yaml
#     snakemake --cores 16 --config protocol=paper    the long protocol
#
# The steps are in workflow/rules/, one file a stage; profiles/default is loaded by itself.


include: "workflow/Snakefile"


FORMS = ("tables.txt", "index.html", "paper.pdf")


rule all:
    default_target: True
    input:
        f"{RUN.run}/manifest.json",
        [f"{folder}/report/{name}" for folder in RUN.tables for name in FORMS],


# The answer is what everybody waits for: show it where the command was typed.
# (`make report` shows it itself, so that it comes even if there was nothing to do.)
onsuccess:
    # Not after other targets: `figures` is of another run, and kernels alone have none.
    others = {"figures", "series", "exports"} & set(sys.argv)
    made = os.path.exists(f"{RUN.tables[0]}/report/tables.txt")
    if os.environ.get("KDELTA_SHOW") != "no" and made and not others:
        shell("kdelta show --brief {RUN.run:q}")
