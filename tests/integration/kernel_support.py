# SPDX-License-Identifier: GPL-2.0-only
"""A kernel tree for tests: 60 lines of make that behave like Kbuild where it matters.

It has the same targets, output folder, dependency files, generated identity and
step lines, and compiles two C files instead of thousands.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from kdelta.kernel.source import SourceTree

MAKEFILE = r"""
VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 1
EXTRAVERSION =

OBJS := $(O)/fs/pipe.o $(O)/fs/exec.o $(O)/init/version-timestamp.o
quiet = @mkdir -p $(@D); echo "  $(1)      $(@:$(O)/%=%)"
cmdfile = @printf 'savedcmd_x := cc\n\nsource_x := %s\n\ndeps_x := \\\n' $(2) > \
	$(@D)/.$(@F).cmd; printf '  %s \\\n' $(3) >> $(@D)/.$(@F).cmd

.DELETE_ON_ERROR:
bzImage: $(O)/arch/x86/boot/bzImage

# "IMPOSSIBLE" options do not take, as with an unmet dependency
allnoconfig:
	@mkdir -p $(O)/include/config $(O)/scripts/kconfig
	@echo host > $(O)/scripts/kconfig/conf.o
	@grep -v IMPOSSIBLE $(KCONFIG_ALLCONFIG) > $(O)/.config
	@echo CONFIG_BASE=y >> $(O)/.config
	@echo 6.12.1 > $(O)/include/config/kernel.release
defconfig:
	@mkdir -p $(O)/include/config
	@printf 'CONFIG_DEF=y\nCONFIG_A=n\n' > $(O)/.config
	@echo 6.12.1 > $(O)/include/config/kernel.release
olddefconfig:
	@true

$(O)/fs/%.o: fs/%.c include/pipe_fs_i.h
	$(call quiet,CC)
	@$(CC) $(KCFLAGS) -Iinclude -c -o $@ $<
	$(call cmdfile,x,$(CURDIR)/$<,$(CURDIR)/include/pipe_fs_i.h)
$(O)/init/version-timestamp.o: FORCE
	$(call quiet,CC)
	@printf 'const char banner[] = "Linux version 6.12.1 (%s@%s) #%s %s";\n' "$$KBUILD_BUILD_USER" \
		"$$KBUILD_BUILD_HOST" "$$KBUILD_BUILD_VERSION" "$$KBUILD_BUILD_TIMESTAMP" \
		> $(O)/init/version.c
	@$(CC) $(KCFLAGS) -c -o $@ $(O)/init/version.c
	$(call cmdfile,x,init/version.c,include/generated/compile.h)
$(O)/arch/x86/boot/bzImage: $(OBJS)
	$(call quiet,BUILD)
	@cd $(O) && rm -f vmlinux.a && ar cDPrST vmlinux.a fs/pipe.o fs/exec.o
	@ld --build-id=sha1 -e exec -o $(O)/vmlinux $^
	@mkdir -p $(@D)/compressed && cat $^ | gzip -n > $(@D)/compressed/vmlinux.bin.gz
	@test -e stale -a -e $@ || python3 put_together.py $(@D)/compressed/vmlinux.bin.gz > $@
FORCE:
"""

# A setup header that says where the compressed kernel is, and that kernel.
PUT_TOGETHER = """
import struct, sys
kernel = open(sys.argv[1], "rb").read()
image = bytearray(1024) + kernel
image[0x1F1] = 1
image[0x202:0x208] = b"HdrS" + struct.pack("<H", 0x20F)
image[0x248:0x250] = struct.pack("<II", 0, len(kernel))
sys.stdout.buffer.write(image)
"""

PIPE_C = "".join(f"int pipe_{n}(void)\n{{\n\treturn {n};\n}}\n\n\n" for n in range(1, 11))
FILES = {
    "Makefile": MAKEFILE.lstrip("\n"),
    "put_together.py": PUT_TOGETHER,
    "Kconfig": "config A\n\tbool\n\nconfig IMPOSSIBLE\n\tbool\n\tdepends on MAGIC\n",
    "include/pipe_fs_i.h": "#define PIPE_BUFFERS 16\n",
    "fs/pipe.c": '#include "pipe_fs_i.h"\n' + PIPE_C,
    "fs/exec.c": '#include "pipe_fs_i.h"\nint exec = PIPE_BUFFERS;\n',
}


def write_tree(folder: Path) -> None:
    """Write the tree's files."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def cached_tree(cache: Path) -> SourceTree:
    """The tree as `fetch` would have left it in a cache."""
    entry = cache / "sources" / "5eed"
    write_tree(entry / "tree")
    describe = {"type": "git", "url": "u", "commit": "5eed", "kernel_version": "6.12.1"}
    (entry / "source.json").write_text(json.dumps({"schema": 1, "id": "5eed", **describe}))
    return SourceTree("5eed", entry / "tree", describe)


def snapshot(tree: Path) -> dict[str, tuple[bytes, int, int]]:
    """Content, modification time and inode of every file."""
    return {
        str(path.relative_to(tree)): (
            path.read_bytes(),
            path.stat().st_mtime_ns,
            path.stat().st_ino,
        )
        for path in sorted(tree.rglob("*"))
        if path.is_file()
    }


def make_patch(file: Path, change: dict[str, tuple[str, str]]) -> Path:
    """Write a patch against the tree: file -> (text to replace, replacement)."""
    old, new = file.parent / f"{file.name}.a", file.parent / f"{file.name}.b"
    parts = []
    for name, (before, after) in change.items():
        text = FILES.get(name, "")
        assert before in text
        for folder, content in ((old, text), (new, text.replace(before, after, 1))):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        parts.append(
            subprocess.run(
                [
                    "diff",
                    "-uN",
                    "--label",
                    f"a/{name}",
                    "--label",
                    f"b/{name}",
                    old / name,
                    new / name,
                ],
                capture_output=True,
                text=True,
                check=False,
            ).stdout
        )
    file.write_text("Subject: [PATCH] fs/pipe: a change\n\nWhy.\n---\n" + "".join(parts))
    return file
