# SPDX-License-Identifier: GPL-2.0-only
"""What the virtual CPU says of the hypervisor below it, whatever model it plays.

Runs in the guest: standard library only.
"""

from __future__ import annotations

import ctypes
import mmap
import platform

# Leaf 0x40000000 of CPUID: twelve letters in EBX, ECX and EDX, written to where RDI points.
_CODE = bytes.fromhex(
    "53"  # push rbx
    "b800000040"  # mov eax, 0x40000000
    "31c9"  # xor ecx, ecx
    "0fa2"  # cpuid
    "891f"  # mov [rdi], ebx
    "894f04"  # mov [rdi+4], ecx
    "895708"  # mov [rdi+8], edx
    "5b"  # pop rbx
    "c3"  # ret
)


def hypervisor_signature() -> str:
    """The hypervisor's signature, such as `KVMKVMKVM` or `TCGTCGTCGTCG`.

    Empty where the processor is no x86_64. On a bare machine it means nothing.
    """
    if platform.machine() != "x86_64":
        return ""
    with mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as m:
        m.write(_CODE)
        place = ctypes.c_char.from_buffer(m)
        letters = ctypes.create_string_buffer(12)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(place))(letters)
        del place  # or the page could not be given back
        return letters.raw.decode("ascii", "replace").rstrip("\0")
