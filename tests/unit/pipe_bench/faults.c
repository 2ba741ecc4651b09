// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded under pipe_bench: $PIPE_FAULT names what goes wrong at the hundredth
 * transfer of a process, or in all of them. Transfers are the calls of 512 bytes
 * or more; the start gate's are shorter. With $PIPE_CLOCK the program's time runs
 * that many times as fast as the world's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_int writes, reads;

static bool fault(const char *name)
{
	const char *wanted = getenv("PIPE_FAULT");

	return wanted && !strcmp(wanted, name);
}

static long hurry(void)
{
	const char *wanted = getenv("PIPE_CLOCK");

	return wanted ? atol(wanted) : 1;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	unsigned long long ns;
	int err = syscall(SYS_clock_gettime, clock, ts);

	ns = (ts->tv_sec * 1000000000ULL + ts->tv_nsec) * hurry();
	ts->tv_sec = ns / 1000000000;
	ts->tv_nsec = ns % 1000000000;
	return err;
}

int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *left)
{
	unsigned long long ns = (left->tv_sec * 1000000000ULL + left->tv_nsec) / hurry();
	struct timespec ts = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	return syscall(SYS_rt_sigtimedwait, set, info, &ts, 8);
}

ssize_t write(int fd, const void *buf, size_t size)
{
	bool now = size >= 512 && atomic_fetch_add(&writes, 1) == 100;
	char *byte = (char *)buf + size / 2;
	ssize_t n;

	if (size >= 512 && fault("short-writes"))
		size /= 2;
	if (size >= 512 && fault("slow-writes"))
		sleep(1);
	if (now && fault("failing-writer")) {
		errno = EIO;
		return -1;
	}
	if (now && fault("idle-writer"))
		return 0;
	if (now && fault("stalled-writer"))
		for (;;)
			pause();
	if (now && fault("exiting-writer"))
		pthread_exit(NULL);
	if (now && fault("killed-writer"))
		raise(SIGKILL);
	if (now && fault("crash"))
		raise(SIGSEGV);
	if (now && fault("corrupt"))
		*byte ^= 1;
	n = syscall(SYS_write, fd, buf, size);
	if (now && fault("corrupt"))
		*byte ^= 1;
	return n;
}

ssize_t read(int fd, void *buf, size_t size)
{
	bool now = size >= 512 && atomic_fetch_add(&reads, 1) == 100;

	if (now && fault("failing-reader")) {
		errno = EIO;
		return -1;
	}
	if (now && fault("exiting-reader"))
		_exit(0);
	if (now && fault("closing-reader")) {
		close(fd);
		sleep(1);
		return 0;
	}
	if (now && fault("lost"))	/* one transfer nobody is told of */
		syscall(SYS_read, fd, buf, size);
	return syscall(SYS_read, fd, buf, size);
}
