// SPDX-License-Identifier: GPL-2.0
/*
 * Prints index, lower bound and width of the histogram bucket of each value on
 * stdin. Includes the program's source to reach its static functions.
 */
#define main pipe_bench_main
#include "pipe_bench.c"
#undef main

int main(void)
{
	unsigned long long ns, lower, width;

	while (scanf("%llu", &ns) == 1) {
		lower = bucket_lower(bucket_of(ns), &width);
		printf("%u %llu %llu\n", bucket_of(ns), lower, width);
	}
	return 0;
}
