# SPDX-License-Identifier: GPL-2.0-only
# The run's plan: paths and keys. All logic is in the package (kdelta.workflow).
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

# The tools of the environment that snakemake itself runs from, activated or not.
os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ["PATH"]]
)
# For the manifest: what was typed. In the environment, since a parameter would rerun its rule.
os.environ.setdefault("KDELTA_ROOT", str(workflow.basedir))
os.environ.setdefault("KDELTA_ARGV", " ".join(["snakemake", *sys.argv[1:]]))

from kdelta.errors import KdeltaError
from kdelta.workflow import plan_run
from kdelta.workflow_lock import hold

# Jobs read this file too, but only the process that schedules them holds the lock.
if workflow.is_main_process and hold(Path(".snakemake")):
    print("kdelta: an earlier run was killed; this one goes on", file=sys.stderr)

try:
    RUN = plan_run(dict(config), "config/config.yaml", Path(workflow.basedir))
except KdeltaError as error:
    # The message alone: where in this file it was raised helps nobody.
    raise SystemExit(f"kdelta: {error}") from None

validate(config, "../schemas/config.schema.json")

EXPERIMENT = RUN.experiment_file
RAW = f"{RUN.run}/raw/{{regime}}/block-{{block}}"


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
