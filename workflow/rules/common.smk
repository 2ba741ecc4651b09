# SPDX-License-Identifier: GPL-2.0-only
# The run's plan: paths and keys. All logic is in the package (kdelta.workflow).
import functools
import inspect
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

# Of the checkout: the folder that holds workflow/rules/, whatever snakemake was started with.
ROOT = Path(str(workflow.current_basedir)).parents[1]

# The tools of the environment that snakemake itself runs from, activated or not.
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()])
)
# For the manifest: what was typed. In the environment, since a parameter would rerun its rule.
# It also tells kdelta that it is a job, which ends when snakemake does, however that ends.
os.environ.setdefault("KDELTA_ROOT", str(ROOT))
os.environ.setdefault("KDELTA_ARGV", " ".join(["snakemake", *sys.argv[1:]]))

from kdelta.errors import KdeltaError
from kdelta.left_jobs import only_looks, settle
from kdelta.mail.choice import chosen_mail, sender_or_nobody
from kdelta.workflow import guests_key, plan_run
from kdelta.workflow_lock import hold

# Jobs read this file too, but only the process that schedules them holds the lock.
HELD = hold(Path(".snakemake")) if workflow.is_main_process else None
if HELD:
    print("kdelta: an earlier run was killed; this one goes on", file=sys.stderr)

try:
    # Before Snakemake looks which files there are.
    if HELD is not None and not only_looks(sys.argv):
        settle(Path())
    RUN = plan_run(dict(config), "config/config.yaml", ROOT)
except KdeltaError as error:
    # The message alone: where in this file it was raised helps nobody.
    raise SystemExit(f"kdelta: {error}") from None

validate(config, "../schemas/config.schema.json")

EXPERIMENT = RUN.experiment_file
RAW = f"{RUN.run}/raw/{{regime}}/block-{{block}}"


# All blocks of a regime have the same key, and making one takes longer than planning a job.
measure_key = functools.cache(RUN.measure_key)
mechanism_key = functools.cache(RUN.mechanism_key)


def asked_often(function):
    """A function that says at once what it takes.

    Snakemake looks that up twice in every call, and plans ten thousand jobs with four calls each.
    """
    function.__signature__ = inspect.signature(function)
    return function


def unchecked(value):
    """A parameter that is no reason to run again: Snakemake compares none that is given `input`.

    What it stands for is in the names of the files, or in the key.
    """
    return asked_often(lambda wildcards, input: value)


# Another name of the same experiment's file measures nothing again.
EXPERIMENT_FILE = {"experiment": unchecked(RUN.experiment_words)}
THIS_RUN = {
    **EXPERIMENT_FILE,
    "protocol": unchecked(RUN.protocol),
    "run": unchecked(RUN.run),
}


wildcard_constraints:
    arm="|".join(map(re.escape, RUN.kernels)),
    regime="|".join(map(re.escape, {*RUN.regimes, *RUN.mechanism_regimes})),
    block=r"\d{3}",


def all_cores():
    """Threads of a rule that must have the machine for itself."""
    try:
        return max(1, workflow.cores)
    except WorkflowError:
        # No --cores: `--unlock` and the like, or a cluster, whose profile sets the threads.
        return 1


def folder_of_output(wildcards, output):
    """The folder that all of a rule's files are in."""
    return os.path.dirname(output[0])


def label(path):
    """What a file is called in Snakemake's report, with its workload where there are several."""
    inside = Path(path).relative_to(RUN.run)
    several = len(RUN.tables) > 1
    return f"{inside.parts[0]}: {inside.stem}" if several else inside.stem


def baseline_source(wildcards):
    """The record of what the baseline is built from, if it is."""
    baseline = RUN.experiment.baseline
    return [] if baseline in RUN.ready else RUN.source_record(baseline)


def source_option(wildcards, input):
    """The option that names a record of `kdelta fetch`, where the step needs one."""
    source = input.get("source")
    return f"--source {shlex.quote(str(source))}" if source else ""


def baseline_objects(wildcards):
    """The baseline's object hashes, which every other arm's are compared with."""
    if wildcards.arm == RUN.experiment.baseline or RUN.experiment.baseline in RUN.ready:
        return []
    return f"{RUN.base}/kernels/{RUN.experiment.baseline}/objects.sha256"


# Once the checkpoint `guests` is made, nothing that it is made of changes in this process. While it
# is not, Snakemake's exception says so, which is not kept.
@functools.cache
def guests_made():
    """The file of the checkpoint, and what guests boot and run and what executes them."""
    made = str(checkpoints.guests.get().output[0])
    return made, guests_key(RECORDS, ACCELERATION, PROGRAMS)


@asked_often
def guests_file(wildcards):
    """The file of the checkpoint `guests`, once it is made."""
    return ancient(guests_made()[0])


@asked_often
def guest_facts(wildcards):
    """What guests boot and run and what executes them, once that is known."""
    return guests_made()[1]


def series_prose(wildcards):
    """The author's prose; if it is not there, the command says what to do about that."""
    mail = RUN.experiment.mail
    return [mail.prose] if mail and os.path.exists(mail.prose) else []


def series_arm(wildcards):
    """The arm whose patches are mailed."""
    try:
        return chosen_mail(RUN.experiment, None, EXPERIMENT).arm
    except KdeltaError as error:
        raise WorkflowError(str(error)) from None


def shipped_files(wildcards):
    """Everything that a packed run consists of, but for the sums of what it gives."""
    folder = Path(REFERENCE) / wildcards.shipped
    return sorted(
        str(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "SHA256SUMS"
    )


def regenerated(wildcards):
    """All that `figures` makes; the paper itself only where LaTeX is installed."""
    if not REFERENCES:
        raise WorkflowError(
            f"{REFERENCE}: no packed run here; `kdelta reference --run RUN --output "
            f"{REFERENCE}/EXPERIMENT/PROTOCOL` makes one of a finished run"
        )
    names = ["SHA256SUMS", "report/tables.txt", "report/index.html", "report/paper.tex"]
    if shutil.which("pdflatex"):
        names.append("report/paper.pdf")
    return expand(f"{AGAIN}/{{name}}", shipped=REFERENCES, name=names)
