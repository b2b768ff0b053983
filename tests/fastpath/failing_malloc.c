/* Preloaded: the n-th allocation that chosen libraries make fails, once; and which of theirs are not freed yet.
 * For one thread that drives everything; others may allocate meanwhile. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

enum { RANGES = 512, PLACES = 1 << 20 };
static struct { uintptr_t from, to; } ranges[RANGES];
static int range_count;
static long left = -1;
static int fired;
static void *failed_in;
static uintptr_t kept[PLACES];
static long live;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is_ours(void *caller) {
    for (int at = 0; at < range_count; at++)
        if ((uintptr_t)caller >= ranges[at].from && (uintptr_t)caller < ranges[at].to) return 1;
    return 0;
}

static size_t place_of(uintptr_t block) { return (block >> 4) * 2654435761u % PLACES; }

static void keep(void *block) {
    size_t at = place_of((uintptr_t)block);
    if (block == NULL) return;
    pthread_mutex_lock(&lock);
    while (kept[at] > 1) at = (at + 1) % PLACES;
    kept[at] = (uintptr_t)block; /* 0 was never used, 1 was freed */
    live++;
    pthread_mutex_unlock(&lock);
}

static int forget(void *block) {
    size_t at = place_of((uintptr_t)block);
    int found = 0;
    if (block == NULL || range_count == 0) return 0;
    pthread_mutex_lock(&lock);
    for (; kept[at] != 0; at = (at + 1) % PLACES)
        if (kept[at] == (uintptr_t)block) {
            kept[at] = 1, live--, found = 1;
            break;
        }
    pthread_mutex_unlock(&lock);
    return found;
}

static int fails(void *caller) {
    if (left < 0 || left-- > 0) return 0;
    fired = 1, failed_in = caller, errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) {
    void *caller = __builtin_return_address(0), *block;
    if (!is_ours(caller)) return __libc_malloc(size);
    if (fails(caller)) return NULL;
    keep(block = __libc_malloc(size));
    return block;
}

void *calloc(size_t count, size_t size) {
    void *caller = __builtin_return_address(0), *block;
    if (!is_ours(caller)) return __libc_calloc(count, size);
    if (fails(caller)) return NULL;
    keep(block = __libc_calloc(count, size));
    return block;
}

void *realloc(void *old, size_t size) {
    void *caller = __builtin_return_address(0), *block;
    int ours = is_ours(caller);
    if (ours && fails(caller)) return NULL;
    if (forget(old)) ours = 1;
    block = __libc_realloc(old, size);
    if (ours && size != 0) keep(block != NULL ? block : old);
    return block;
}

void free(void *block) {
    forget(block);
    __libc_free(block);
}

void failing_watch(uintptr_t from, uintptr_t to) {
    if (range_count < RANGES) ranges[range_count].from = from, ranges[range_count++].to = to;
}

/* The allocation after `after` others fails; a negative number: none does. */
void failing_arm(long after) { fired = 0, failed_in = NULL, left = after; }
int failing_fired(void) { return fired; }
void *failing_place(void) { return failed_in; }
long failing_live(void) { return live; }
