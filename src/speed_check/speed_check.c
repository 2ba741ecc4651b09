// SPDX-License-Identifier: GPL-2.0
/*
 * speed_check - what every CPU is worth right now
 *
 * Does a fixed amount of register-only arithmetic on every CPU that this
 * process may use, on all of them at once, and prints how long it took on each:
 * by the monotonic clock, and by the thread's own CPU clock, which stands still
 * while another task of this system has the CPU. So the second one grows only
 * if the CPU itself was slower or taken away from below: by a lower clock rate,
 * a hypervisor, or whatever else runs on the host of an emulator.
 *
 * Output: one line of JSON, values in the order of the CPUs' numbers. Exit
 * status: 0, 1 if it could not be done, 2 for a bad command line.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NSEC		1000000000ULL
#define MAX_WORK	1000000000000ULL

/*
 * This part of the work is done beforehand, unmeasured: an emulator translates
 * code when it first runs, and the program's pages have to be there.
 */
#define WARMUP_SHARE	16

#define fail(status, fmt, ...)	do {						\
	fprintf(stderr, "speed_check: " fmt "\n", __VA_ARGS__);			\
	exit(status);								\
} while (0)

static unsigned long long work;
static pthread_barrier_t gate;

/* By worker */
static int cpus[CPU_SETSIZE];
static pthread_t threads[CPU_SETSIZE];
static unsigned long long wall_ns[CPU_SETSIZE], cpu_ns[CPU_SETSIZE], result[CPU_SETSIZE];

static unsigned long long clock_ns(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t))
		fail(1, "cannot read clock %d: %s", clock, strerror(errno));
	return t.tv_sec * NSEC + t.tv_nsec;
}

/*
 * Four of Marsaglia's xorshift64 generators, which need no memory. Each waits
 * for its own last result, so that one alone would leave most of the CPU idle,
 * and see nothing of a neighbour on the same core; four together take what the
 * core can do in parallel, as most programs and translated code do.
 */
#define STREAMS		4

struct state {
	unsigned long long x[STREAMS];
};

static inline unsigned long long step(unsigned long long x)
{
	x ^= x << 13;
	x ^= x >> 7;
	return x ^ x << 17;
}

static void xorshift(struct state *s, unsigned long long steps)
{
	unsigned long long a = s->x[0], b = s->x[1], c = s->x[2], d = s->x[3];

	while (steps--) {
		a = step(a);
		b = step(b);
		c = step(c);
		d = step(d);
		/* In registers of their own: one that holds two of them does not show the same */
		asm volatile("" : "+r" (a), "+r" (b), "+r" (c), "+r" (d) : : "memory");
	}
	*s = (struct state){ { a, b, c, d } };
	/* Done by here, however the compiler would rather place the work */
	asm volatile("" : : "r" (s) : "memory");
}

static void *run(void *arg)
{
	int *cpu = arg, i = cpu - cpus, n;
	unsigned long long wall, own;
	struct state s;

	for (n = 0; n < STREAMS; n++)
		s.x[n] = (unsigned long long)*cpu * STREAMS + n + 1;
	xorshift(&s, work / WARMUP_SHARE);
	pthread_barrier_wait(&gate);
	wall = clock_ns(CLOCK_MONOTONIC);
	own = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	xorshift(&s, work);
	cpu_ns[i] = clock_ns(CLOCK_THREAD_CPUTIME_ID) - own;
	wall_ns[i] = clock_ns(CLOCK_MONOTONIC) - wall;
	result[i] = s.x[0] ^ s.x[1] ^ s.x[2] ^ s.x[3];
	return NULL;
}

static void start_worker(int i)
{
	pthread_attr_t attr;
	cpu_set_t set;
	int err;

	CPU_ZERO(&set);
	CPU_SET(cpus[i], &set);
	err = pthread_attr_init(&attr);
	if (!err)
		err = pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	if (!err)
		err = pthread_create(&threads[i], &attr, run, &cpus[i]);
	if (err)
		fail(1, "cannot start a thread on CPU %d: %s", cpus[i], strerror(err));
	pthread_attr_destroy(&attr);
}

static unsigned long long parse_work(const char *arg)
{
	unsigned long long val;
	char *end;

	errno = 0;
	val = strtoull(arg, &end, 10);
	if (!isdigit((unsigned char)*arg) || *end || errno || !val || val > MAX_WORK)
		fail(2, "'%s' is not a number of steps from 1 to %llu", arg, MAX_WORK);
	return val;
}

static void print_list(const char *name, const unsigned long long *val, int nr)
{
	int i;

	printf(",\"%s\":", name);
	for (i = 0; i < nr; i++)
		printf("%c%llu", i ? ',' : '[', val[i]);
	putchar(']');
}

int main(int argc, char **argv)
{
	cpu_set_t allowed;
	int cpu, i, nr = 0;

	if (argc != 2)
		fail(2, "%s", "usage: speed_check STEPS");
	work = parse_work(argv[1]);
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		fail(1, "cannot read the allowed CPUs: %s", strerror(errno));
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			cpus[nr++] = cpu;
	pthread_barrier_init(&gate, NULL, nr);
	for (i = 0; i < nr; i++)
		start_worker(i);
	for (i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);

	printf("{\"program\":\"speed_check\",\"work\":%llu", work);
	print_list("wall_ns", wall_ns, nr);
	print_list("cpu_ns", cpu_ns, nr);
	print_list("result", result, nr);
	puts("}");
	if (fflush(stdout) || ferror(stdout))
		fail(1, "cannot write the output: %s", strerror(errno));
	return 0;
}
