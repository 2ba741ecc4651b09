// SPDX-License-Identifier: GPL-2.0
/*
 * pipe_bench - throughput and write latency of one pipe under contention
 *
 * Sweeps writers x readers over one pipe. What the numbers mean:
 *
 * - A "write" is one transfer of --write-size bytes, however many write()
 *   calls it takes. Its latency lasts until the last byte is in the pipe.
 * - A writer's window lasts from the start of the first write it began after
 *   the warm-up to the end of the last one it began before the stop. All rates
 *   divide by that measured time, never by the time that was asked for.
 * - Throughput is the bytes of all measured writes / the mean of the writers'
 *   own windows. As each writer does nothing but write, writers * write size /
 *   mean latency gives the same figure but for the time between two writes. Both
 *   come from the same clock readings: their distance bounds what the loop itself
 *   costs, it is no second measurement.
 *
 * Every cell runs in a process of its own, watched by the parent: a worker that
 * fails, dies or hangs costs the cell and the exit status, never the sweep.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VERSION		"1"
#define NSEC		1000000000ULL
#define MAX_SECONDS	86400
#define MAX_WORKERS	1000
#define MAX_TRANSFER	1073741824ULL

/*
 * Latency buckets: 128 equal ones per power of two, so that a bucket is never
 * wider than 1/128 of its lower bound. Below 256 ns each value has its own.
 */
#define SUB_BITS	7
#define SUB_BUCKETS	128U
#define NR_BUCKETS	((64 - SUB_BITS + 1) * SUB_BUCKETS)

/* --verify begins each write at another offset into a buffer this much longer */
#define VERIFY_OFFSETS	4096
#define VERIFY_STRIDE	61

enum phase { PHASE_WARMUP, PHASE_MEASURE, PHASE_STOP };
enum format { FORMAT_HUMAN, FORMAT_JSON, FORMAT_KTAP };

struct list {
	int nr;
	int val[CPU_SETSIZE];
};

static struct {
	struct list writers, readers, cpus;
	unsigned long long write_size, read_size, pipe_size;
	double duration, warmup, timeout;
	int processes, nonblock, verify, dry_run;
	const char *pin;
	enum format format;
} opt = {
	.writers = { 3, { 1, 2, 5 } },
	.readers = { 3, { 1, 5, 10 } },
	.write_size = 65536,
	.pipe_size = 1048576,
	.duration = 1,
	.warmup = 0.2,
	.timeout = 30,
	.pin = "none",
};

/* The tail of hist[] is never touched: it keeps workers' cache lines apart */
struct worker {
	bool is_writer;
	int index;
	int fd;
	pid_t pid;
	pthread_t thread;
	bool finished;

	unsigned long long bytes_total;		/* warm-up and drain included */
	struct rusage before, after;		/* the measured window's ends */
	unsigned long long payload[256];	/* --verify: bytes of each value */

	/* writers only, measured window only */
	unsigned long long first_ns, last_ns;
	unsigned long long writes, sum_ns, min_ns, max_ns;
	unsigned long long eagain, short_writes;
	unsigned long long hist[NR_BUCKETS];
};

/* Shared by the parent, the cell and its workers. error[] also pads phase */
struct shared {
	atomic_int phase;
	atomic_int ready;
	atomic_int failed;
	char error[256];
	struct worker workers[];
};

struct result {
	double throughput, elapsed;
	unsigned long long writes, written, read;
	unsigned long long sum_ns, min_ns, max_ns;
	unsigned long long eagain, short_writes, payload_errors;
	unsigned long long voluntary, involuntary, user_us, system_us;
	unsigned long long hist[NR_BUCKETS];
};

static struct shared *sh;
static int gate[2];

static __thread char message[sizeof(sh->error)];

/* Macros, so that the compiler checks the format */
#define die(...)	(snprintf(message, sizeof(message), __VA_ARGS__), fail(1))
#define usage_error(...)	(snprintf(message, sizeof(message), __VA_ARGS__), fail(2))

/*
 * The one way out on an error. Inside a cell the first message is kept for the
 * parent to print; whoever fails after that only gives it time to be written.
 */
static noreturn void fail(int status)
{
	if (!sh) {
		if (opt.format == FORMAT_KTAP && status == 1)
			printf("Bail out! %s\n", message);
		fflush(stdout);
		fprintf(stderr, "pipe_bench: %s\n", message);
		exit(status);
	}
	if (atomic_exchange(&sh->failed, 1))
		usleep(100000);
	else
		memcpy(sh->error, message, sizeof(message));
	_exit(status);
}

static unsigned long long now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NSEC + ts.tv_nsec;
}

/* Sleep until a child may have ended (true) or the deadline (false) */
static bool wait_for_child(unsigned long long deadline)
{
	unsigned long long now = now_ns();
	struct timespec left;
	sigset_t set;

	if (now >= deadline)
		return false;
	left.tv_sec = (deadline - now) / NSEC;
	left.tv_nsec = (deadline - now) % NSEC;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	return sigtimedwait(&set, NULL, &left) == SIGCHLD || errno == EINTR;
}

/* ---- histogram ---- */

static unsigned int bucket_of(unsigned long long ns)
{
	int shift;

	if (ns < SUB_BUCKETS)
		return ns;
	shift = 63 - __builtin_clzll(ns) - SUB_BITS;
	return shift * SUB_BUCKETS + (ns >> shift);
}

/* The bucket holds lower <= ns < lower + width */
static unsigned long long bucket_lower(unsigned int i, unsigned long long *width)
{
	unsigned int shift = i < 2 * SUB_BUCKETS ? 0 : i / SUB_BUCKETS - 1;

	*width = 1ULL << shift;
	return (unsigned long long)(i - shift * SUB_BUCKETS) << shift;
}

/* Nearest rank, given as the middle of its bucket */
static unsigned long long percentile(const struct result *res, unsigned int permille)
{
	unsigned long long rank = (res->writes * permille + 999) / 1000;
	unsigned long long seen = 0, width, mid;
	unsigned int i;

	for (i = 0; i < NR_BUCKETS - 1; i++) {
		seen += res->hist[i];
		if (seen >= rank)
			break;
	}
	mid = bucket_lower(i, &width);
	mid += (width - 1) / 2;
	if (mid < res->min_ns)
		return res->min_ns;
	return mid > res->max_ns ? res->max_ns : mid;
}

/* ---- workers ---- */

static const char *role(const struct worker *w)
{
	return w->is_writer ? "writer" : "reader";
}

static void *alloc_touched(size_t size)
{
	void *p = NULL;

	if (posix_memalign(&p, sysconf(_SC_PAGESIZE), size))
		die("no memory for a buffer of %zu bytes", size);
	memset(p, 0, size);
	return p;
}

static char *alloc_payload(int index)
{
	size_t i, size = opt.write_size + VERIFY_OFFSETS;
	unsigned long long x = 0x9e3779b97f4a7c15ULL * (index + 1);
	char *buf = alloc_touched(size);

	for (i = 0; i < size; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		buf[i] = x >> 32;
	}
	return buf;
}

static void pin_worker(const struct worker *w, int nth)
{
	int cpu = opt.cpus.val[nth % opt.cpus.nr];
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("cannot pin %s %d to CPU %d: %s", role(w), w->index, cpu, strerror(errno));
}

/* Returns when the cell closes the gate's other end, all workers at once */
static void wait_for_start(void)
{
	char c;

	atomic_fetch_add(&sh->ready, 1);
	while (read(gate[0], &c, 1) < 0)
		if (errno != EINTR)
			die("cannot wait at the start gate: %s", strerror(errno));
}

static void write_all(struct worker *w, const char *buf)
{
	struct pollfd pfd = { .fd = w->fd, .events = POLLOUT };
	size_t left = opt.write_size;
	ssize_t n;

	while (left) {
		n = write(w->fd, buf, left);
		if (n > 0) {
			w->short_writes += (size_t)n < left;
			buf += n;
			left -= n;
		} else if (n < 0 && errno == EAGAIN) {
			w->eagain++;
			poll(&pfd, 1, -1);
		} else if (!n || errno != EINTR) {
			die("writer %d: write(): %s", w->index,
			    n ? strerror(errno) : "wrote nothing");
		}
	}
}

static void record(struct worker *w, unsigned long long start, unsigned long long end)
{
	unsigned long long ns = end - start;

	if (end < start)
		die("writer %d: CLOCK_MONOTONIC went backwards", w->index);
	if (!w->writes++) {
		w->first_ns = start;
		w->min_ns = ns;
	}
	w->last_ns = end;
	w->sum_ns += ns;
	if (ns < w->min_ns)
		w->min_ns = ns;
	if (ns > w->max_ns)
		w->max_ns = ns;
	w->hist[bucket_of(ns)]++;
}

/* Bytes of each value sent, from how often the buffer was sent from each offset */
static void count_sent(struct worker *w, const char *buf, const unsigned long long *uses)
{
	unsigned long long times = 0;
	size_t i;

	for (i = 0; i < opt.write_size + VERIFY_OFFSETS; i++) {
		if (i < VERIFY_OFFSETS)
			times += uses[i];
		if (i >= opt.write_size && i - opt.write_size < VERIFY_OFFSETS)
			times -= uses[i - opt.write_size];
		w->payload[(unsigned char)buf[i]] += times;
	}
}

static void run_writer(struct worker *w)
{
	unsigned long long *uses = alloc_touched(VERIFY_OFFSETS * sizeof(*uses));
	char *buf = alloc_payload(w->index);
	unsigned long long start, end;
	bool measuring = false;
	size_t off = 0;
	int phase;

	memset(w->hist, 0, sizeof(w->hist));	/* no page faults later */
	wait_for_start();
	while ((phase = atomic_load(&sh->phase)) != PHASE_STOP) {
		if (!measuring && phase == PHASE_MEASURE) {
			measuring = true;
			w->eagain = 0;
			w->short_writes = 0;
			getrusage(RUSAGE_THREAD, &w->before);
		}
		start = now_ns();
		write_all(w, buf + off);
		end = now_ns();
		if (measuring)
			record(w, start, end);
		w->bytes_total += opt.write_size;
		if (opt.verify) {
			uses[off]++;
			off = (off + VERIFY_STRIDE) % VERIFY_OFFSETS;
		}
	}
	if (measuring)
		getrusage(RUSAGE_THREAD, &w->after);
	if (opt.verify)
		count_sent(w, buf, uses);
	w->finished = true;
}

/*
 * A reader marks its window's ends at the first read() that returns after each:
 * nothing wakes it for that. Asleep across an end it uses no CPU, so nothing of
 * the window is lost but the wake-up itself; asleep all through, it adds zero.
 */
static void run_reader(struct worker *w)
{
	char *buf = alloc_touched(opt.read_size);
	bool started = false, stopped = false;
	int phase;
	ssize_t i, n;

	wait_for_start();
	do {
		n = read(w->fd, buf, opt.read_size);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			die("reader %d: read(): %s", w->index, strerror(errno));
		}
		phase = atomic_load(&sh->phase);
		if (!started && phase == PHASE_MEASURE) {
			started = true;
			getrusage(RUSAGE_THREAD, &w->before);
		} else if (started && !stopped && phase == PHASE_STOP) {
			stopped = true;
			getrusage(RUSAGE_THREAD, &w->after);
		}
		w->bytes_total += n;
		if (opt.verify)
			for (i = 0; i < n; i++)
				w->payload[(unsigned char)buf[i]]++;
	} while (n);
	w->finished = true;
}

static void *run_worker(void *arg)
{
	struct worker *w = arg;

	if (opt.cpus.nr)
		pin_worker(w, w - sh->workers);
	if (w->is_writer)
		run_writer(w);
	else
		run_reader(w);
	return NULL;
}

/* ---- one cell ---- */

static void open_pipe(int fd[2])
{
	int got;

	if (pipe2(fd, O_CLOEXEC))
		die("cannot make a pipe: %s", strerror(errno));
	if (fcntl(fd[1], F_SETPIPE_SZ, (int)opt.pipe_size) < 0)
		die("a pipe of %llu bytes: %s (it has %d; see /proc/sys/fs/pipe-max-size)",
		    opt.pipe_size, strerror(errno), fcntl(fd[1], F_GETPIPE_SZ));
	got = fcntl(fd[1], F_GETPIPE_SZ);
	if (got < 0 || (unsigned long long)got != opt.pipe_size)
		die("a pipe of %llu bytes: got %d (ask for a power-of-two number of pages)",
		    opt.pipe_size, got);
	if (opt.nonblock && fcntl(fd[1], F_SETFL, O_NONBLOCK))
		die("cannot set O_NONBLOCK: %s", strerror(errno));
}

/* Die with the parent, even when it is killed outright */
static void follow_parent(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
}

static void start_worker(struct worker *w, const int fd[2])
{
	pid_t pid, parent = getpid();
	int err;

	if (!opt.processes) {
		err = pthread_create(&w->thread, NULL, run_worker, w);
		if (err)
			die("cannot start %s %d: %s", role(w), w->index, strerror(err));
		return;
	}
	pid = fork();
	if (pid < 0)
		die("cannot start %s %d: %s", role(w), w->index, strerror(errno));
	if (pid) {
		w->pid = pid;	/* shared: the child must not write its 0 here */
		return;
	}
	follow_parent(parent);
	close(fd[!w->is_writer]);	/* or nobody sees EOF or EPIPE */
	close(gate[1]);
	run_worker(w);
	_exit(0);
}

static void check_finished(const struct worker *w)
{
	if (!w->finished)
		die("%s %d died", role(w), w->index);
}

/* Collect one worker process; with WNOHANG, if one has ended */
static bool reap_worker(int nr, int flags)
{
	int i, status;
	pid_t pid = waitpid(-1, &status, flags);

	for (i = 0; pid > 0 && i < nr; i++) {
		const struct worker *w = &sh->workers[i];

		if (w->pid != pid)
			continue;
		if (WIFSIGNALED(status))
			die("%s %d killed by signal %d", role(w), w->index, WTERMSIG(status));
		check_finished(w);
	}
	return pid > 0;
}

static void sleep_until(unsigned long long deadline, int nr)
{
	while (wait_for_child(deadline))
		while (reap_worker(nr, WNOHANG))
			;
}

static void run_phases(int writers, int nr, const int fd[2])
{
	int i;

	while (atomic_load(&sh->ready) < nr)
		sleep_until(now_ns() + NSEC / 500, nr);
	if (!opt.warmup)	/* the first write counts */
		atomic_store(&sh->phase, PHASE_MEASURE);
	close(gate[1]);
	sleep_until(now_ns() + opt.warmup * NSEC, nr);
	atomic_store(&sh->phase, PHASE_MEASURE);
	sleep_until(now_ns() + opt.duration * NSEC, nr);
	atomic_store(&sh->phase, PHASE_STOP);

	/* Readers see EOF only when no write end is left, so writers go first */
	for (i = 0; i < writers && !opt.processes; i++)
		pthread_join(sh->workers[i].thread, NULL);
	if (!opt.processes)
		close(fd[1]);
	for (; i < nr && !opt.processes; i++)
		pthread_join(sh->workers[i].thread, NULL);
	while (opt.processes && reap_worker(nr, 0))
		;
	for (i = 0; i < nr; i++)
		check_finished(&sh->workers[i]);
}

static unsigned long long since_us(struct timeval a, struct timeval b)
{
	return (b.tv_sec - a.tv_sec) * 1000000LL + b.tv_usec - a.tv_usec;
}

static void add_writer(struct result *res, const struct worker *w)
{
	double elapsed = (double)(w->last_ns - w->first_ns) / NSEC;
	unsigned int i;

	if (!w->writes)
		die("writer %d completed no write that began in the measured window", w->index);
	if (w->last_ns <= w->first_ns)
		die("writer %d: CLOCK_MONOTONIC stood still", w->index);
	res->elapsed += elapsed;
	if (!res->writes || w->min_ns < res->min_ns)
		res->min_ns = w->min_ns;
	if (w->max_ns > res->max_ns)
		res->max_ns = w->max_ns;
	res->writes += w->writes;
	res->sum_ns += w->sum_ns;
	res->eagain += w->eagain;
	res->short_writes += w->short_writes;
	for (i = 0; i < NR_BUCKETS; i++)
		res->hist[i] += w->hist[i];
}

static void collect(struct result *res, int writers, int nr)
{
	unsigned long long missing = 0, extra = 0;
	int i, v;

	for (i = 0; i < nr; i++) {
		const struct worker *w = &sh->workers[i];

		if (w->is_writer) {
			add_writer(res, w);
			res->written += w->bytes_total;
		} else {
			res->read += w->bytes_total;
		}
		res->voluntary += w->after.ru_nvcsw - w->before.ru_nvcsw;
		res->involuntary += w->after.ru_nivcsw - w->before.ru_nivcsw;
		res->user_us += since_us(w->before.ru_utime, w->after.ru_utime);
		res->system_us += since_us(w->before.ru_stime, w->after.ru_stime);
	}
	/*
	 * One ratio of totals, not a sum of the writers' own rates: on few CPUs
	 * the windows of writers differ by a write or so, and this keeps
	 * throughput * mean latency = writers * write size all the same.
	 */
	res->elapsed /= writers;
	res->throughput = res->writes * (double)opt.write_size / res->elapsed / (1 << 20);

	/*
	 * Readers split and mix the writers' bytes in any way, but bytes of each
	 * value come out as often as they went in: one changed byte shows.
	 */
	for (v = 0; v < 256; v++) {
		unsigned long long in = 0, out = 0;

		for (i = 0; i < nr; i++)
			*(sh->workers[i].is_writer ? &in : &out) += sh->workers[i].payload[v];
		missing += in > out ? in - out : 0;
		extra += out > in ? out - in : 0;
	}
	res->payload_errors = missing > extra ? missing : extra;
}

/* ---- output ---- */

static const char *mode(void)
{
	return opt.processes ? "processes" : "threads";
}

static double mean_ns(const struct result *res)
{
	return (double)res->sum_ns / res->writes;
}

static void print_heading(int nr_cells)
{
	if (opt.format == FORMAT_JSON)
		return;
	if (opt.format == FORMAT_KTAP)
		printf("KTAP version 1\n1..%d\n", nr_cells);
	printf("# pipe_bench %s: %llu-byte writes, %llu-byte reads, %llu-byte pipe\n",
	       VERSION, opt.write_size, opt.read_size, opt.pipe_size);
	printf("# %s, %s, pin %s, %g s per cell after %g s of warm-up\n", mode(),
	       opt.nonblock ? "O_NONBLOCK" : "blocking", opt.pin, opt.duration, opt.warmup);
	if (opt.format == FORMAT_HUMAN) {
		printf("# write latency in us, context switches of all workers\n");
		printf("%7s %7s %10s %10s %10s %10s %10s %10s %10s %9s %9s\n", "writers", "readers",
		       "MiB/s", "mean", "p50", "p90", "p99", "p99.9", "max", "vol.cs", "invol.cs");
	}
	fflush(stdout);
}

static void print_human(const struct result *res, int writers, int readers)
{
	printf("%7d %7d %10.1f %10.1f %10.1f %10.1f %10.1f %10.1f %10.1f %9llu %9llu\n",
	       writers, readers, res->throughput, mean_ns(res) / 1e3,
	       percentile(res, 500) / 1e3, percentile(res, 900) / 1e3,
	       percentile(res, 990) / 1e3, percentile(res, 999) / 1e3, res->max_ns / 1e3,
	       res->voluntary, res->involuntary);
}

static void print_json(const struct result *res, int writers, int readers)
{
	const char *comma = "";
	unsigned long long lower, width;
	unsigned int i;

	printf("{\"program\":\"pipe_bench\",\"version\":\"%s\",", VERSION);
	printf("\"writers\":%d,\"readers\":%d,", writers, readers);
	printf("\"write_size\":%llu,\"read_size\":%llu,\"pipe_size\":%llu,",
	       opt.write_size, opt.read_size, opt.pipe_size);
	printf("\"mode\":\"%s\",\"nonblock\":%s,\"pin\":\"%s\",\"verify\":%s,",
	       mode(), opt.nonblock ? "true" : "false", opt.pin, opt.verify ? "true" : "false");
	printf("\"duration_requested_s\":%.9g,\"warmup_s\":%.9g,\"elapsed_s\":%.9f,",
	       opt.duration, opt.warmup, res->elapsed);
	printf("\"writes\":%llu,\"bytes_written\":%llu,", res->writes,
	       res->writes * opt.write_size);
	printf("\"bytes_written_total\":%llu,\"bytes_read_total\":%llu,", res->written, res->read);
	printf("\"throughput_mib_s\":%.9g,", res->throughput);
	printf("\"write_latency_ns\":{\"mean\":%.1f,\"min\":%llu,\"p50\":%llu,\"p90\":%llu,",
	       mean_ns(res), res->min_ns, percentile(res, 500), percentile(res, 900));
	printf("\"p99\":%llu,\"p99.9\":%llu,\"max\":%llu},\"histogram\":[",
	       percentile(res, 990), percentile(res, 999), res->max_ns);
	for (i = 0; i < NR_BUCKETS; i++) {
		if (!res->hist[i])
			continue;
		lower = bucket_lower(i, &width);
		printf("%s[%llu,%llu,%llu]", comma, lower, lower + width, res->hist[i]);
		comma = ",";
	}
	printf("],\"context_switches\":{\"voluntary\":%llu,\"involuntary\":%llu},",
	       res->voluntary, res->involuntary);
	printf("\"cpu_s\":{\"user\":%.6f,\"system\":%.6f},",
	       res->user_us / 1e6, res->system_us / 1e6);
	printf("\"eagain\":%llu,\"short_writes\":%llu,\"payload_errors\":%llu}\n",
	       res->eagain, res->short_writes, res->payload_errors);
}

static void print_ktap(const struct result *res, int writers, int readers, int number)
{
	printf("ok %d writers=%d readers=%d # ", number, writers, readers);
	printf("%.1f MiB/s, write latency in us: mean %.1f p50 %.1f p99 %.1f max %.1f\n",
	       res->throughput, mean_ns(res) / 1e3, percentile(res, 500) / 1e3,
	       percentile(res, 990) / 1e3, res->max_ns / 1e3);
}

/* What is wrong with the data, after the figures are out so that it can be seen */
static void check_result(const struct result *res)
{
	if (res->read != res->written)
		die("%llu bytes were written but %llu read", res->written, res->read);
	if (res->payload_errors)
		die("payload corrupted: at least %llu bytes came out changed",
		    res->payload_errors);
}

static void run_cell(int writers, int readers, int number)
{
	static struct result res;
	int fd[2], i, nr = writers + readers;

	open_pipe(fd);
	if (pipe2(gate, O_CLOEXEC))
		die("cannot make the start gate: %s", strerror(errno));
	for (i = 0; i < nr; i++) {
		struct worker *w = &sh->workers[i];

		w->is_writer = i < writers;
		w->index = w->is_writer ? i : i - writers;
		w->fd = fd[w->is_writer];
		start_worker(w, fd);
	}
	if (opt.processes) {
		close(fd[0]);
		close(fd[1]);
	}
	run_phases(writers, nr, fd);
	collect(&res, writers, nr);
	if (opt.format == FORMAT_KTAP) {
		check_result(&res);
		print_ktap(&res, writers, readers, number);
	} else if (opt.format == FORMAT_JSON) {
		print_json(&res, writers, readers);
	} else {
		print_human(&res, writers, readers);
	}
	if (fflush(stdout))
		die("cannot write the output: %s", strerror(errno));
	check_result(&res);
}

/* Wait for the cell's process until the deadline, then kill it; true if it was well */
static bool supervise(pid_t pid, unsigned long long deadline)
{
	bool killed = false;
	int status;

	while (!waitpid(pid, &status, WNOHANG)) {
		if (wait_for_child(deadline))
			continue;
		if (!killed) {
			snprintf(sh->error, sizeof(sh->error),
				 "not done %g s after its window: killed", opt.timeout);
			kill(pid, SIGKILL);
			killed = true;
			deadline = now_ns() + 5 * NSEC;
			continue;
		}
		/* Stuck in the kernel: no later cell would be worth anything */
		fprintf(stderr, "pipe_bench: process %d does not die\n", pid);
		exit(1);
	}
	if (!killed && WIFSIGNALED(status))
		snprintf(sh->error, sizeof(sh->error), "killed by signal %d", WTERMSIG(status));
	return !killed && WIFEXITED(status) && !WEXITSTATUS(status);
}

static bool measure(int writers, int readers, int number)
{
	size_t size = sizeof(*sh) + (writers + readers) * sizeof(struct worker);
	pid_t pid, parent = getpid();
	bool ok;

	sh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED) {
		sh = NULL;
		die("no memory for %d workers", writers + readers);
	}
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		snprintf(sh->error, sizeof(sh->error), "cannot fork: %s", strerror(errno));
	} else if (!pid) {
		follow_parent(parent);
		run_cell(writers, readers, number);
		_exit(0);
	}
	ok = pid > 0 &&
	     supervise(pid, now_ns() + (opt.warmup + opt.duration + opt.timeout) * NSEC);
	if (!ok) {
		fprintf(stderr, "pipe_bench: writers=%d readers=%d: %s\n",
			writers, readers, sh->error);
		if (opt.format == FORMAT_KTAP)
			printf("not ok %d writers=%d readers=%d # %s\n",
			       number, writers, readers, sh->error);
	}
	munmap(sh, size);
	sh = NULL;
	return ok;
}

/* ---- command line ---- */

static unsigned long long parse_size(const char *name, const char *arg, unsigned long long max)
{
	unsigned long long val;
	int shift = 0;
	char *end;

	errno = 0;
	val = strtoull(arg, &end, 10);
	if (*end == 'K' || *end == 'M')
		shift = *end++ == 'K' ? 10 : 20;
	if (!isdigit((unsigned char)*arg) || *end || errno || !val || val > max >> shift)
		usage_error("--%s: '%s' is not a number of bytes from 1 to %llu (suffixes: K, M)",
			    name, arg, max);
	return val << shift;
}

static double parse_seconds(const char *name, const char *arg, double min)
{
	char *end;
	double val = strtod(arg, &end);

	if (*end || !isdigit((unsigned char)*arg) || val < min || val > MAX_SECONDS)
		usage_error("--%s: '%s' is not a number of seconds from %g to %d",
			    name, arg, min, MAX_SECONDS);
	return val;
}

/* 1,2,5 or 0-3,8 */
static void parse_list(const char *name, const char *arg, int min, int max, struct list *list)
{
	const char *p = arg;
	long first, last;
	char *end;

	list->nr = 0;
	do {
		first = isdigit((unsigned char)*p) ? strtol(p, &end, 10) : -1;
		last = first;
		if (first >= 0 && *end == '-' && isdigit((unsigned char)end[1]))
			last = strtol(end + 1, &end, 10);
		if (first < min || last < first || last > max || (*end && *end != ','))
			usage_error("--%s: '%s' is not a list like 1,2,5 of numbers from %d to %d",
				    name, arg, min, max);
		if (last - first >= CPU_SETSIZE - list->nr)
			usage_error("--%s: more than %d values", name, CPU_SETSIZE);
		while (first <= last)
			list->val[list->nr++] = first++;
		p = end + 1;
	} while (*end);
}

static void parse_pin(const char *arg)
{
	opt.cpus.nr = 0;
	opt.pin = arg;
	if (strcmp(arg, "none") && strcmp(arg, "auto"))
		parse_list("pin", arg, 0, CPU_SETSIZE - 1, &opt.cpus);
}

/* What depends on the machine: which CPUs this process may use */
static void choose_cpus(void)
{
	cpu_set_t allowed;
	int i;

	if (!strcmp(opt.pin, "none"))
		return;
	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		die("cannot read the allowed CPUs: %s", strerror(errno));
	if (!strcmp(opt.pin, "auto"))
		for (i = 0; i < CPU_SETSIZE; i++)
			if (CPU_ISSET(i, &allowed))
				opt.cpus.val[opt.cpus.nr++] = i;
	for (i = 0; i < opt.cpus.nr; i++)
		if (!CPU_ISSET(opt.cpus.val[i], &allowed))
			usage_error("--pin: CPU %d is not one this process may use",
				    opt.cpus.val[i]);
}

static enum format parse_format(const char *arg)
{
	static const char * const names[] = { "human", "json", "ktap" };	/* as the enum */
	unsigned int i;

	for (i = 0; i < 3; i++)
		if (!strcmp(arg, names[i]))
			return i;
	usage_error("--format: '%s' is none of human, json, ktap", arg);
}

static void print_help(void)
{
	printf("Usage: pipe_bench [OPTION]...\n"
	       "Measure throughput and write latency of a pipe, for each number of writers and\n"
	       "each number of readers.\n\n"
	       "  --writers LIST     numbers of writers (1,2,5)\n"
	       "  --readers LIST     numbers of readers (1,5,10)\n"
	       "  --write-size BYTES bytes per write, suffix K or M allowed (64K)\n"
	       "  --read-size BYTES  bytes asked for per read() (the write size)\n"
	       "  --pipe-size BYTES  capacity of the pipe; must be granted exactly (1M)\n"
	       "  --duration SECONDS measured time per cell, fractions allowed (1)\n"
	       "  --warmup SECONDS   time before it, not measured (0.2)\n"
	       "  --timeout SECONDS  a cell not done this long after its window fails (30)\n"
	       "  --processes        workers are processes, not threads\n"
	       "  --nonblock         O_NONBLOCK writers, which poll() when the pipe is full\n"
	       "  --pin CPUS         none, auto (all allowed CPUs) or a list like 0-3,8; workers\n"
	       "                     take them in turn, writers first (none)\n"
	       "  --verify           check that every byte comes out as it went in\n"
	       "  --format FORMAT    human, json (one object per line and cell) or ktap\n"
	       "                     (human; ktap under kselftest's runner)\n"
	       "  --dry-run          only check the options and print the cells, one per line\n"
	       "  --help, --version\n\n"
	       "Exit status: 0 if every cell was measured and its bytes add up, 1 if not, 2 for\n"
	       "a command line that makes no sense.\n");
}

static void parse_options(int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "writers", required_argument, NULL, 'w' },
		{ "readers", required_argument, NULL, 'r' },
		{ "write-size", required_argument, NULL, 's' },
		{ "read-size", required_argument, NULL, 'S' },
		{ "pipe-size", required_argument, NULL, 'p' },
		{ "duration", required_argument, NULL, 'd' },
		{ "warmup", required_argument, NULL, 'u' },
		{ "timeout", required_argument, NULL, 't' },
		{ "processes", no_argument, &opt.processes, 1 },
		{ "nonblock", no_argument, &opt.nonblock, 1 },
		{ "pin", required_argument, NULL, 'c' },
		{ "verify", no_argument, &opt.verify, 1 },
		{ "dry-run", no_argument, &opt.dry_run, 1 },
		{ "format", required_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ }
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", longopts, NULL)) != -1) {
		switch (c) {
		case 0:		/* a flag, already set */
			break;
		case 'w':
			parse_list("writers", optarg, 1, MAX_WORKERS, &opt.writers);
			break;
		case 'r':
			parse_list("readers", optarg, 1, MAX_WORKERS, &opt.readers);
			break;
		case 's':
			opt.write_size = parse_size("write-size", optarg, MAX_TRANSFER);
			break;
		case 'S':
			opt.read_size = parse_size("read-size", optarg, MAX_TRANSFER);
			break;
		case 'p':
			opt.pipe_size = parse_size("pipe-size", optarg, INT_MAX);
			break;
		case 'd':
			opt.duration = parse_seconds("duration", optarg, 0.001);
			break;
		case 'u':
			opt.warmup = parse_seconds("warmup", optarg, 0);
			break;
		case 't':
			opt.timeout = parse_seconds("timeout", optarg, 0.1);
			break;
		case 'c':
			parse_pin(optarg);
			break;
		case 'f':
			opt.format = parse_format(optarg);
			break;
		case 'h':
			print_help();
			exit(0);
		case 'V':
			printf("pipe_bench %s\n", VERSION);
			exit(0);
		case ':':
			usage_error("%s needs a value (see --help)", argv[optind - 1]);
		default:
			usage_error("bad option %s (see --help)", argv[optind - 1]);
		}
	}
	if (optind < argc)
		usage_error("'%s' is not an option (see --help)", argv[optind]);
	if (!opt.read_size)
		opt.read_size = opt.write_size;
}

int main(int argc, char **argv)
{
	int fd[2], w, r, number = 0, failures = 0;
	sigset_t set;

	/* Set by kselftest's runner, which wants KTAP */
	if (getenv("kselftest_timeout") || getenv("KSFT_TAP_LEVEL"))
		opt.format = FORMAT_KTAP;
	parse_options(argc, argv);
	if (opt.dry_run) {
		for (w = 0; w < opt.writers.nr; w++)
			for (r = 0; r < opt.readers.nr; r++)
				printf("writers=%d readers=%d\n",
				       opt.writers.val[w], opt.readers.val[r]);
		return fflush(stdout) ? 1 : 0;
	}
	choose_cpus();

	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);	/* for sigtimedwait() */

	print_heading(opt.writers.nr * opt.readers.nr);
	open_pipe(fd);		/* a size that is refused is refused once */
	close(fd[0]);
	close(fd[1]);
	for (w = 0; w < opt.writers.nr; w++)
		for (r = 0; r < opt.readers.nr; r++)
			failures += !measure(opt.writers.val[w], opt.readers.val[r], ++number);
	if (fflush(stdout))
		die("cannot write the output: %s", strerror(errno));
	return failures ? 1 : 0;
}
