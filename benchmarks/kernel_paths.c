// SPDX-License-Identifier: GPL-2.0
/*
 * kernel_paths - what a kernel's copying, clearing, filling and locking cost
 *
 * Each by a system call that does little else, on one thread:
 *   copy   pread() of 64 KiB of a file in a tmpfs: copied to user space
 *   clear  read() of 64 KiB of /dev/zero: cleared in user space
 *   fill   write() of 64 KiB to an empty pipe: pages allocated, cleared where the
 *          kernel does that, and copied to
 *   lock   ioctl(FIONREAD) of a pipe: its mutex taken and dropped
 *   call   getppid(): a system call that does nothing
 * Prints one line of JSON: the fastest of several rounds each, in nanoseconds.
 *
 * Usage: kernel_paths FILE, a file in a tmpfs that is written anew.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SIZE		(64 * 1024)
#define ROUNDS		30
#define ROUND_NS	20000000ULL

static char buffer[SIZE];
static int file, zero, pipes[2];

static void check(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

static unsigned long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void copy(void)
{
	check(pread(file, buffer, SIZE, 0) == SIZE, "pread");
}

static void clear(void)
{
	check(read(zero, buffer, SIZE) == SIZE, "read /dev/zero");
}

static void lock(void)
{
	int bytes;

	check(!ioctl(pipes[0], FIONREAD, &bytes), "FIONREAD");
}

static void call(void)
{
	syscall(SYS_getppid);
}

static void fill(void)
{
	check(write(pipes[1], buffer, SIZE) == SIZE, "write");
}

static void drain(void)
{
	check(read(pipes[0], buffer, SIZE) == SIZE, "read");
}

/* Nanoseconds of one @step, the fastest round's; @undo is not counted */
static double cost(void (*step)(void), void (*undo)(void))
{
	unsigned long long begun, spent, best = ~0ULL, until;
	int round;
	unsigned int n;

	for (round = 0; round < ROUNDS; round++) {
		until = now_ns() + ROUND_NS;
		spent = 0;
		n = 0;
		do {
			begun = now_ns();
			step();
			spent += now_ns() - begun;
			if (undo)
				undo();
			n++;
		} while (now_ns() < until);
		if (spent / n < best)
			best = spent / n;
	}
	return best;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fputs("usage: kernel_paths FILE\n", stderr);
		return 2;
	}
	file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
	check(file >= 0, argv[1]);
	check(write(file, buffer, SIZE) == SIZE, argv[1]);
	zero = open("/dev/zero", O_RDONLY);
	check(zero >= 0, "/dev/zero");
	check(!pipe(pipes), "pipe");
	check(fcntl(pipes[1], F_SETPIPE_SZ, 2 * SIZE) >= 2 * SIZE, "F_SETPIPE_SZ");

	printf("{\"copy\":%.0f,\"clear\":%.0f,\"fill\":%.0f,\"lock\":%.0f,\"call\":%.0f}\n",
	       cost(copy, NULL), cost(clear, NULL), cost(fill, drain), cost(lock, NULL),
	       cost(call, NULL));
	return 0;
}
