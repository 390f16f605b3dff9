/* What the C programs beside this file share. They define _GNU_SOURCE first. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline void check(long ok, const char *what)
{
    if (ok < 0) {
        perror(what);
        exit(1);
    }
}

static inline double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}
