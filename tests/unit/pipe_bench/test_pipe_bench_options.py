# SPDX-License-Identifier: GPL-2.0-only
"""What pipe_bench says to a command line that it cannot follow."""

import ctypes
from pathlib import Path

import pytest

PR_CAPBSET_DROP = 24
CAP_SYS_RESOURCE = 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--writers", "0"], "--writers: '0' is not a list like 1,2,5 of numbers from 1 to 1000"),
        (["--writers", "1,,2"], "--writers: '1,,2' is not a list"),
        (["--readers", "1,x"], "--readers: '1,x' is not a list"),
        (["--readers", "1;2"], "--readers: '1;2' is not a list"),
        (["--readers", "5-2"], "--readers: '5-2' is not a list"),
        (["--readers", "1001"], "--readers: '1001' is not a list"),
        (["--readers", "1,"], "--readers: '1,' is not a list"),
        (["--readers", "1-"], "--readers: '1-' is not a list"),
        (["--readers", "99999999999999999999"], "from 1 to 1000"),
        (["--readers", "1-1000,1-1000"], "--readers: more than 1024 values"),
        (["--write-size", "0"], "--write-size: '0' is not a number of bytes from 1 to 1073741824"),
        (["--write-size", "-5"], "--write-size: '-5' is not a number of bytes"),
        (["--write-size", "2048M"], "--write-size: '2048M' is not a number of bytes"),
        (["--read-size", "4G"], "--read-size: '4G' is not a number of bytes"),
        (
            ["--pipe-size", "2147483648"],
            "'2147483648' is not a number of bytes from 1 to 2147483647",
        ),
        (
            ["--pipe-size", "99999999999999999999"],
            "'99999999999999999999' is not a number of bytes",
        ),
        (["--duration", "0"], "--duration: '0' is not a number of seconds from 0.001 to 86400"),
        (["--duration", "nan"], "--duration: 'nan' is not a number of seconds"),
        (["--duration", "1s"], "--duration: '1s' is not a number of seconds"),
        (["--warmup", ""], "--warmup: '' is not a number of seconds from 0 to"),
        (["--timeout", "1e9"], "--timeout: '1e9' is not a number of seconds"),
        (["--pin", "some"], "--pin: 'some' is not a list"),
        (["--pin", "1023"], "--pin: CPU 1023 is not one this process may use"),
        (["--format", "xml"], "--format: 'xml' is none of human, json, ktap"),
        (["--frobnicate"], "bad option --frobnicate (see --help)"),
        (["--verify=1"], "bad option --verify=1 (see --help)"),
        (["--writers"], "--writers needs a value (see --help)"),
        (["extra"], "'extra' is not an option (see --help)"),
    ],
    ids=" ".join,
)
def test_bad_command_line(bench, arguments, message):
    done = bench(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("pipe_bench: ")
    assert message in line


@pytest.mark.parametrize("output", ["json", "ktap"])
def test_pipe_size_the_kernel_rounds_up(bench, output):
    done = bench("--pipe-size", "5000", "--format", output)
    reason = "a pipe of 5000 bytes: got 8192 (ask for a power-of-two number of pages)"
    assert done.returncode == 1
    assert done.stderr == f"pipe_bench: {reason}\n"
    if output == "ktap":
        assert done.stdout.splitlines()[-1] == f"Bail out! {reason}"
    else:
        assert done.stdout == ""


def test_pipe_size_beyond_the_limit_without_privilege(bench):
    """Root is above the limit, so the run gives up the capability that lets it be."""
    libc = ctypes.CDLL(None)
    limit = int(Path("/proc/sys/fs/pipe-max-size").read_text())
    done = bench(
        *("--pipe-size", str(2 * limit), "--format", "json"),
        preexec_fn=lambda: libc.prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE, 0, 0, 0),
    )
    assert done.returncode == 1
    assert f"a pipe of {2 * limit} bytes: Operation not permitted" in done.stderr
    assert "/proc/sys/fs/pipe-max-size" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_output_that_cannot_be_written(bench):
    short = ["--writers", "1", "--readers", "1", "--duration", "0.02", "--format", "json"]
    with Path("/dev/full").open("w") as full:
        done = bench(*short, stdout=full)
    assert done.returncode == 1
    assert "cannot write the output: No space left on device" in done.stderr


def test_a_dry_run_lists_the_cells_and_touches_nothing(bench):
    # Neither a pipe of this size nor this CPU need be there.
    sweep = ["--writers", "1,3", "--readers", "2", "--pipe-size", "2147483647", "--pin", "1023"]
    done = bench(*sweep, "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "writers=1 readers=2\nwriters=3 readers=2\n"
    assert bench(*sweep, "--dry-run", "--readers", "0").returncode == 2


def test_help_names_every_option(bench):
    done = bench("--help")
    assert (done.returncode, done.stderr) == (0, "")
    options = """
    writers readers write-size read-size pipe-size duration warmup timeout processes
    nonblock pin verify format dry-run help version
    """
    assert [name for name in options.split() if f"--{name}" not in done.stdout] == []
    assert bench("--version").stdout == "pipe_bench 1\n"
