# SPDX-License-Identifier: GPL-2.0-only
"""What the tools say of a kernel's weight, understood; and what differs between two kernels."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdelta.kernel.costs import (
    LARGEST,
    STACK,
    Entry,
    differing,
    parse_build_id,
    parse_sizes,
    parse_stack,
    parse_symbols,
    parse_table,
    record,
    source_name,
    table,
    weigh,
)

SOURCE = """
extern int out(int *, int);
static __attribute__((noinline)) int inner(int a, int b, int c)
{ int x[40]; if (__builtin_expect(a == 3, 0)) { out(x, b); __builtin_abort(); } return out(x, c); }
int outer(int n) { static int calls; calls += n; return inner(n, 2, n) + calls; }
int same(int n) __attribute__((alias("outer")));
int table[10] = {1};
const int constants[5] = {2};
int nothing[30];
"""
OTHERS = "int out(int *a, int b) { return a ? b : 0; } void abort(void) { for (;;); }"


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("obj")
    flags = ["-O2", "-w", "-fstack-usage", "-ffreestanding", "-fno-pie", "-c"]
    for name, source in (("fs/a", SOURCE), ("b", OTHERS), ("fs/stale", SOURCE)):
        (folder / "fs").mkdir(exist_ok=True)
        (folder / f"{name}.c").write_text(source)
        subprocess.run(["gcc", *flags, "-o", f"{name}.o", f"{name}.c"], cwd=folder, check=True)
    link = ["ld", "--build-id=sha1", "-e", "outer", "-o", "vmlinux", "fs/a.o", "b.o"]
    subprocess.run(link, cwd=folder, check=True)
    return folder


def test_a_linked_program_is_weighed(linked: Path) -> None:
    facts, entries = weigh(linked, ["fs/a.o", "b.o", "fs/assembly.o"])
    assert facts["sizes"].keys() == {"text", "data", "bss"}
    assert len(facts["build_id"]) == 40
    sizes = {tuple(entry): size for entry, size in entries.items()}
    assert sizes["data", "table"] == 40
    assert sizes["data", "constants"] == 20
    assert sizes["bss", "nothing"] == 120
    assert sizes["bss", "calls"] == 4, "the compiler calls it calls.0"
    assert ("text", "same") not in sizes, "it is another name of outer"
    stack = {name: size for (kind, name), size in sizes.items() if kind == STACK}
    assert stack.keys() == {"fs/a.o:inner", "fs/a.o:outer", "b.o:out", "b.o:abort"}
    assert stack["fs/a.o:inner"] >= 160
    functions = {"inner", "outer", "out", "abort"}
    assert {name for (kind, name) in sizes if kind == "text"} == functions


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("pipe_write", "pipe_write"),
        ("pipe_write.cold", "pipe_write"),
        ("pipe_write.constprop.0", "pipe_write"),
        ("pipe_write.part.12.isra.3", "pipe_write"),
        ("__already_done.41", "__already_done"),
        ("switch.table.pipe_fcntl", "switch.table.pipe_fcntl"),
        ("__UNIQUE_ID_ddebug417", "__UNIQUE_ID_ddebug"),
        ("sha256", "sha256"),
    ],
)
def test_compilers_names(symbol: str, name: str) -> None:
    assert source_name(symbol) == name


def test_parts_of_a_function_are_one_and_padding_is_none() -> None:
    text = """\
ffffffff81000000 0000000000000010 T __pfx_pipe_write
ffffffff81000010 0000000000000100 t pipe_write.constprop.0
ffffffff81900000 0000000000000020 t pipe_write.cold
ffffffff81000200 0000000000000008 T other
ffffffff81000200 0000000000000008 W alias_of_other
ffffffff82000000 D __start_label
0000000000000200 0000000000000008 D per_cpu_thing
                 w weak_and_missing
"""
    assert parse_symbols(text) == {
        Entry("text", "pipe_write"): 0x120,
        Entry("text", "alias_of_other"): 8,
        Entry("data", "per_cpu_thing"): 8,
    }


def test_both_compilers_tell_stack_use() -> None:
    gcc = "fs/pipe.c:12:5:read\t40\tstatic\nfs/pipe.c:9:1:write.part\t64\tdynamic,bounded\n"
    clang = "/src/fs/pipe.c:12:read\t40\tstatic\n/src/fs/pipe.c:9:write.part.0\t64\tdynamic\n"
    again = "fs/pipe.c:9:1:write\t16\tstatic\n"
    for text in (gcc, clang, gcc + again):
        assert parse_stack(text) == {"read": 40, "write": 64}


def test_sizes_and_build_id_as_printed() -> None:
    printed = "   text\t   data\t    bss\t    dec\t    hex\tfilename\n"
    printed += "10993520\t3699846\t1839108\t16532474\t fc43fa\tvmlinux\n"
    assert parse_sizes(printed) == {"text": 10993520, "data": 3699846, "bss": 1839108}
    assert parse_build_id("  Owner\n    Build ID: 52143546\n") == "52143546"
    assert parse_build_id("Displaying notes found in: .notes\n") is None


NAMES = st.text("abc_:./1", min_size=1, max_size=8)
KERNELS = st.dictionaries(
    st.builds(Entry, st.sampled_from(["text", "data", "bss", STACK]), NAMES),
    st.integers(1, 10**6),
    max_size=12,
)


@given(KERNELS)
def test_the_file_gives_back_what_was_put_in(sizes: dict[Entry, int]) -> None:
    data = table(sizes)
    assert parse_table(data) == sizes
    assert table(dict(reversed(sizes.items()))) == data


@given(KERNELS, KERNELS)
def test_differences_lead_from_one_kernel_to_the_other(
    baseline: dict[Entry, int], arm: dict[Entry, int]
) -> None:
    changes = differing(baseline, arm)
    made = dict(baseline)
    for change in changes:
        entry = Entry(change.kind, change.name)
        assert made.pop(entry, None) == change.baseline
        if change.arm is not None:
            made[entry] = change.arm
    assert made == arm
    amounts = [abs((change.arm or 0) - (change.baseline or 0)) for change in changes]
    assert amounts == sorted(amounts, reverse=True)
    kept = record(baseline, arm)
    assert sum(kept[name]["count"] for name in ("symbols", "stack")) == len(changes)
    grown = sum((c.arm or 0) - (c.baseline or 0) for c in changes if c.kind != STACK)
    summed = kept["symbols"]["bytes"]
    assert summed["arm"] - summed["baseline"] == grown


def test_a_record_of_two_compilers_stays_small() -> None:
    many = {Entry("text", f"f{number}"): number for number in range(1, 5000)}
    kept = record(many, {entry: 2 * size for entry, size in many.items()})
    assert kept["symbols"]["count"] == 4999
    largest = [change["name"] for change in kept["symbols"]["largest"]]
    assert largest == [f"f{4999 - place}" for place in range(LARGEST)]
    assert kept["stack"] == {"count": 0, "largest": []}
