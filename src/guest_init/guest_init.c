// SPDX-License-Identifier: GPL-2.0
/*
 * guest_init - the first process of a guest
 *
 * Mounts what the driver and the stressors need, runs one command, and switches
 * the machine off when it has ended. The guest's root is the host's, read-only,
 * so that nothing has to be unpacked or started: udev, temporary files and
 * whatever else a distribution's init would do take longer than the kernel.
 *
 * Usage, by the kernel: guest_init SHARE COMMAND ARGUMENT..., where SHARE is an
 * absolute path below /run at which the folder shared with the host is mounted.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

/* The tag that virtme-ng gives the first folder that is shared read-write. */
#define SHARE_TAG	"virtme.initmount0"
#define P9_OPTIONS	"version=9p2000.L,trans=virtio,access=any,msize=512000"

struct mounted {
	const char *source;
	const char *target;
	const char *type;
	unsigned long flags;
	const char *options;
};

#define PLAIN	(MS_NOSUID | MS_NODEV)
#define DATA	(MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const struct mounted needed[] = {
	{ "proc", "/proc", "proc", DATA, NULL },
	{ "sys", "/sys", "sysfs", DATA, NULL },
	{ "run", "/run", "tmpfs", PLAIN, "mode=0755" },
	{ "tmp", "/tmp", "tmpfs", PLAIN, "mode=1777" },
	{ "cgroup2", "/sys/fs/cgroup", "cgroup2", DATA, NULL },
	{ NULL }
};

/* A kernel under test may lack them, and not every run needs them. */
static const struct mounted wanted[] = {
	{ "tmp", "/var/tmp", "tmpfs", PLAIN, "mode=1777" },
	{ "shm", "/dev/shm", "tmpfs", PLAIN, "mode=1777" },
	{ "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=0620,ptmxmode=0666" },
	{ "tracefs", "/sys/kernel/tracing", "tracefs", DATA, NULL },
	{ NULL }
};

static void say(const char *format, ...)
{
	va_list words;

	va_start(words, format);
	fputs("guest_init: ", stderr);
	vfprintf(stderr, format, words);
	fputc('\n', stderr);
	va_end(words);
}

static void switch_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	/* Nothing switches it off: a first process that ends is a panic. */
	say("cannot switch off: %s", strerror(errno));
	exit(1);
}

static int mount_one(const struct mounted *one)
{
	return mount(one->source, one->target, one->type, one->flags, one->options);
}

static void mount_all(void)
{
	const struct mounted *one;

	/* The kernel mounts it itself if it is configured to. */
	if (mount("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") && errno != EBUSY) {
		say("cannot mount /dev: %s", strerror(errno));
		switch_off();
	}
	for (one = needed; one->source; one++) {
		if (mount_one(one)) {
			say("cannot mount %s: %s", one->target, strerror(errno));
			switch_off();
		}
	}
	mkdir("/dev/shm", 0755);
	mkdir("/dev/pts", 0755);
	for (one = wanted; one->source; one++)
		mount_one(one);
}

/*
 * What executes this machine, as its CPU says (in the leaf that hypervisors
 * have agreed on); nothing where there is no such leaf.
 */
static void tell_hypervisor(void)
{
#ifdef __x86_64__
	unsigned int max, words[4] = { 0 };

	__cpuid(0x40000000, max, words[0], words[1], words[2]);
	setenv("HYPERVISOR", (const char *)words, 1);
#endif
}

static void make_links(void)
{
	/* What no rule of udev makes here. A link that is there already may stay. */
	if (symlink("/proc/self/fd", "/dev/fd") | symlink("/proc/self/fd/0", "/dev/stdin") |
	    symlink("/proc/self/fd/1", "/dev/stdout") | symlink("/proc/self/fd/2", "/dev/stderr"))
		return;
}

static void mount_share(const char *share)
{
	if (mkdir(share, 0755) && errno != EEXIST)
		say("cannot make %s: %s", share, strerror(errno));
	if (mount(SHARE_TAG, share, "9p", PLAIN, P9_OPTIONS)) {
		say("cannot mount the folder shared with the host: %s", strerror(errno));
		switch_off();
	}
}

static void run_to_its_end(char **command)
{
	pid_t child = fork();
	int status;

	if (child == -1) {
		say("cannot start a process: %s", strerror(errno));
		return;
	}
	if (!child) {
		setsid();
		execv(command[0], command);
		say("cannot execute %s: %s", command[0], strerror(errno));
		_exit(127);
	}
	/* Orphans become children of the first process, and it has to bury them. */
	for (;;) {
		pid_t ended = wait(&status);

		if (ended == child)
			break;
		if (ended == -1 && errno != EINTR)
			return;
	}
	if (WIFSIGNALED(status))
		say("%s was killed by signal %d", command[0], WTERMSIG(status));
	else if (WEXITSTATUS(status))
		say("%s ended with status %d", command[0], WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
	if (getpid() != 1) {
		fputs("guest_init: is the first process of a guest, and nothing else\n", stderr);
		return 2;
	}
	if (argc < 3) {
		say("the kernel's command line names no folder and command");
		switch_off();
	}
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/tmp", 1);
	tell_hypervisor();
	mount_all();
	make_links();
	mount_share(argv[1]);
	if (chdir("/tmp"))
		say("cannot enter /tmp: %s", strerror(errno));
	run_to_its_end(argv + 2);
	switch_off();
}
