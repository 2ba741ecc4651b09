/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cpu_check: the smallest kernel that tells whether a virtual CPU executes code by itself.
 *
 * It enters 64-bit mode as a kernel does and counts down. A processor is done with that in a tenth
 * of a second, QEMU's emulator in one; a hypervisor that interprets a guest's instructions one by
 * one takes minutes, if it does not give up at one that it does not know. At the end it writes to
 * the port of QEMU's isa-debug-exit, which ends QEMU with status 2 * DONE + 1.
 *
 * QEMU's -kernel starts it in 32-bit mode without paging, at the address that the note names (the
 * PVH boot protocol, as for Xen).
 */
#define STEPS 100000000
#define EXIT_PORT 0xf4
#define DONE 16

#define PHYS32_ENTRY 18 /* type of the note: XEN_ELFNOTE_PHYS32_ENTRY */

#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define CR0_PG 0x80000000
#define CR4_PAE 0x20

#define TABLE 0x03 /* of a page table's entry: present, writable */
#define PAGE_2M 0x83

	.section .note.pvh, "a", @note
	.long	4, 4, PHYS32_ENTRY
	.asciz	"Xen"
	.long	start

	.text
	.code32
	.globl	start
start:
	/* The first 2 MiB, which hold all of this, at their own addresses. */
	movl	$(level3 + TABLE), level4
	movl	$(level2 + TABLE), level3
	movl	$PAGE_2M, level2
	movl	$CR4_PAE, %eax
	movl	%eax, %cr4
	movl	$level4, %eax
	movl	%eax, %cr3
	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr
	movl	%cr0, %eax
	orl	$CR0_PG, %eax
	movl	%eax, %cr0
	lgdt	table_of_segments
	ljmp	$8, $long_mode

	.code64
long_mode:
	movl	$STEPS, %ecx
1:	decl	%ecx
	jnz	1b
	movb	$DONE, %al
	outb	%al, $EXIT_PORT
2:	hlt
	jmp	2b

	.balign	8
segments:
	.quad	0
	.quad	0x00af9b000000ffff /* 64-bit code */
table_of_segments:
	.word	. - segments - 1
	.quad	segments

	.bss
	.balign	4096
level4:	.skip	4096
level3:	.skip	4096
level2:	.skip	4096

	.section .note.GNU-stack, "", @progbits
